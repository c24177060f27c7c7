//! The environment of a function: read once, at start-up.

use std::collections::HashMap;
use std::ffi::OsString;
use std::str::FromStr;

/// The variables that template.yaml gives a function.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Environment {
        // One that is not Unicode is none of ours.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment(std::env::vars_os().filter_map(text).collect())
    }

    /// The value of a required variable.
    ///
    /// # Panics
    /// When it is not set: a function that is not configured must not start.
    pub fn required(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(value) if !value.is_empty() => value,
            _ => panic!(
                "the environment variable {name} is not set; template.yaml sets it for every function that needs it"
            ),
        }
    }

    /// The value of a variable that may be left empty.
    pub fn optional(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The value of a required variable, as a number, a truth value or any other type that can be read from text.
    ///
    /// # Panics
    /// When it is not set, or cannot be read.
    pub fn parsed<T: FromStr>(&self, name: &str) -> T {
        let value = self.required(name);
        value.parse().unwrap_or_else(|_| {
            panic!("the environment variable {name} has the value {value:?}, which cannot be read")
        })
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(variables: T) -> Environment {
        let owned = variables.into_iter();
        let owned = owned.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Environment(owned.collect())
    }
}

impl<const N: usize> From<[(&str, String); N]> for Environment {
    fn from(variables: [(&str, String); N]) -> Environment {
        let owned = variables.map(|(name, value)| (name.to_owned(), value));
        Environment(owned.into())
    }
}

/// The value of a required variable of this process, for what has no other use for its environment.
///
/// # Panics
/// As [`Environment::required`].
pub fn required(name: &str) -> String {
    Environment::of_process().required(name).to_owned()
}
