//! The console: a page for people, which calls the API as any other client does. Its files are embedded; it needs no token, and holds
//! nothing but the program.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use shared::env::Environment;
use url::Url;

use crate::request::Request;

/// The files, by name; made by `build.rs`.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/console.rs"));
/// The page itself.
const PAGE: &str = "index.html";
/// What is shown where the console was not built.
const NOT_MADE: &str = "<!doctype html><html lang=\"en\"><title>Event Stream</title><p>This build has no console. `make up` and `make build-cloud` make one.</p></html>";
/// Where it is.
const PATH: &str = "/console";

/// How people sign in to the console.
#[derive(Clone, Debug, Default)]
pub struct Console {
    /// The issuer's URL; empty where people can only paste a token.
    pub issuer: String,
    /// The public client of the console; empty likewise.
    pub client_id: String,
    /// The scopes that it asks for, separated by blanks.
    pub scope: String,
    /// Where else than at the issuer itself codes are exchanged for tokens: an origin, or empty.
    pub token_origin: String,
}

impl Console {
    /// As template.yaml gives it to this function.
    pub fn new(environment: &Environment) -> Console {
        let text = |name| environment.optional(name).to_owned();
        Console {
            issuer: text("CONSOLE_ISSUER"),
            client_id: text("CONSOLE_CLIENT_ID"),
            scope: text("CONSOLE_SCOPE"),
            token_origin: text("CONSOLE_TOKEN_ORIGIN"),
        }
    }

    /// The response to a request for the console; none where the path is none of its own.
    pub fn serve(&self, request: &Request, base_path: &str) -> Option<Response<String>> {
        let path = request.path();
        let behind = path.strip_prefix(base_path);
        let rest = path.strip_prefix(PATH);
        let rest = rest.or_else(|| behind?.strip_prefix(PATH))?;
        if !(rest.is_empty() || rest.starts_with('/')) || request.method() != "GET" {
            return None;
        }
        let name = rest.trim_start_matches('/');
        let file = FILES.iter().find(|(it, _)| *it == name && *it != PAGE);
        Some(match file {
            Some((name, text)) => program(name, text),
            // Every other address is a place of the page.
            None => self.page(&way(rest)),
        })
    }

    fn page(&self, way: &str) -> Response<String> {
        let file = |ending: &str| {
            let mut names = FILES.iter().map(|(name, _)| *name);
            names
                .find(|name| name.ends_with(ending))
                .unwrap_or_default()
        };
        let page = FILES.iter().find(|(name, _)| *name == PAGE);
        let mut text = page.map_or(NOT_MADE, |(_, text)| text).to_owned();
        for (mark, value) in [
            ("{issuer}", self.issuer.as_str()),
            ("{client-id}", &self.client_id),
            ("{scope}", &self.scope),
            ("{way}", way),
            ("{style}", file(".css")),
            ("{script}", file(".js")),
        ] {
            text = text.replace(mark, &escaped(value));
        }
        let mut response = answer("text/html; charset=utf-8", "no-cache", text);
        let policy = HeaderValue::try_from(self.policy());
        for (name, value) in [
            (
                "content-security-policy",
                policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
            ),
            ("x-frame-options", HeaderValue::from_static("DENY")),
            ("referrer-policy", HeaderValue::from_static("no-referrer")),
        ] {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Its own files, calls of this API and of the issuer, and nothing else: no inline script, no frame, no form that leaves.
    fn policy(&self) -> String {
        let mut origins = String::from("'self'");
        for address in [&self.issuer, &self.token_origin] {
            if let Ok(url) = Url::parse(address) {
                origins.push(' ');
                origins.push_str(&url.origin().ascii_serialization());
            }
        }
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src {origins}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    }
}

/// The way from a place of the console to its files: what is before them in the address only the browser knows.
fn way(rest: &str) -> String {
    match rest.matches('/').count() {
        0 => "console/".to_owned(),
        depth => "../".repeat(depth - 1),
    }
}

/// A file whose name changes with its content.
fn program(name: &str, text: &str) -> Response<String> {
    let kind = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    answer(kind, "public, max-age=31536000, immutable", text.to_owned())
}

fn answer(kind: &'static str, kept: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    let sniffed = HeaderName::from_static("x-content-type-options");
    headers.insert(sniffed, HeaderValue::from_static("nosniff"));
    response
}

/// A text as an attribute's value in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Request {
        let event =
            serde_json::json!({"rawPath": path, "requestContext": {"http": {"method": "GET"}}});
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn every_place_of_the_console_is_its_page_and_nothing_else_is() {
        let console = Console {
            issuer: "https://issuer.example/pool".into(),
            client_id: "a\"b".into(),
            token_origin: "https://tokens.example".into(),
            ..Console::default()
        };
        for path in [
            "/console",
            "/console/",
            "/console/integrations/erp-1",
            "/events/console/x",
        ] {
            let response = console.serve(&get(path), "/events").unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()["cache-control"], "no-cache");
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            let connect = "connect-src 'self' https://issuer.example https://tokens.example;";
            assert!(policy.contains(connect), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert!(!response.body().contains("a\"b"));
        }
        for path in [
            "/",
            "/consoles",
            "/api/console",
            "/other/console",
            "/health",
        ] {
            assert!(console.serve(&get(path), "/events").is_none(), "{path}");
        }
    }

    #[test]
    fn the_way_to_the_files_is_that_of_the_browser() {
        for (rest, expected) in [
            ("", "console/"),
            ("/", ""),
            ("/register", ""),
            ("/integrations/a/log", "../../"),
        ] {
            assert_eq!(way(rest), expected, "{rest}");
        }
    }

    #[test]
    fn files_are_kept_by_browsers_for_a_year() {
        let console = Console::default();
        for (name, text) in FILES.iter().filter(|(name, _)| *name != PAGE) {
            let response = console
                .serve(&get(&format!("/console/{name}")), "")
                .unwrap();
            assert_eq!(response.body(), text);
            let kept = response.headers()["cache-control"].to_str().unwrap();
            assert!(kept.ends_with("immutable"), "{name}");
        }
    }
}
