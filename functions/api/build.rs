//! Embeds the files of the console that `local/console.py` has made. Without them the API is complete but for that page, which then
//! says how it is made: so that the rules can be built and tested where there is no Node.js.

use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let made = root.join("../../target/console");
    println!(
        "cargo::rerun-if-changed={}",
        made.join("index.html").display()
    );
    let mut files: Vec<PathBuf> = match fs::read_dir(&made) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    let mut list = String::from("[\n");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = file.display().to_string();
        let _ = writeln!(list, "    ({name:?}, include_str!({path:?})),");
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("console.rs");
    if let Err(error) = fs::write(&out, list) {
        panic!("{}: {error}", out.display());
    }
}
