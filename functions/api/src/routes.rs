//! The route table: every endpoint on one screen. The OpenAPI document is made from it.

use http::Response;

use crate::error::ApiError;
use crate::request::Request;
use crate::{
    App, activity, events, files, integrations, openapi, preview, publish, rejected_events,
    responses, signing, tenant, testing,
};

/// An endpoint of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Whether the API responds.
    Health,
    /// The OpenAPI document.
    Document,
    /// Publish events.
    Publish,
    /// List registered integrations.
    List,
    /// Register new integration.
    Register,
    /// Preview events.
    Preview,
    /// Test a target.
    TestNew,
    /// Get integration details.
    Get,
    /// Update the integration.
    Update,
    /// Delete the integration.
    Delete,
    /// Start the integration.
    Start,
    /// Stop the integration.
    Stop,
    /// Test the integration.
    Test,
    /// Rotate the signing secret.
    RotateSecret,
    /// Get integration log.
    Log,
    /// Get activity.
    Activity,
    /// List events.
    ListEvents,
    /// Get event.
    GetEvent,
    /// List files.
    ListFiles,
    /// List rejected events.
    ListRejected,
    /// Delete all rejected events.
    ClearRejected,
    /// Retry all rejected events.
    RetryAllRejected,
    /// Get rejected event.
    GetRejected,
    /// Delete rejected event.
    DeleteRejected,
    /// Retry rejected event.
    RetryRejected,
}

use Endpoint::{
    Activity, ClearRejected, Delete, DeleteRejected, Document, Get, GetEvent, GetRejected, Health,
    List, ListEvents, ListFiles, ListRejected, Log, Preview, Publish, Register, RetryAllRejected,
    RetryRejected, RotateSecret, Start, Stop, Test, TestNew, Update,
};

/// Method, path and endpoint. A slash at the end of a path makes no difference.
#[rustfmt::skip]
pub const ROUTES: [(&str, &str, Endpoint); 26] = [
    ("GET", "/health", Health),
    ("GET", "/openapi.json", Document),
    ("POST", "/api/v1/org/events", Publish),
    ("GET", "/api/v1/org/integrations/eventstream", List),
    ("POST", "/api/v1/org/integrations/eventstream", Register),
    ("POST", "/api/v1/org/integrations/eventstream/_preview", Preview),
    ("POST", "/api/v1/org/integrations/eventstream/_test", TestNew),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}", Get),
    ("PATCH", "/api/v1/org/integrations/eventstream/{integration_id}", Update),
    ("PUT", "/api/v1/org/integrations/eventstream/{integration_id}", Update),
    ("DELETE", "/api/v1/org/integrations/eventstream/{integration_id}", Delete),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/_start", Start),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/_stop", Stop),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/_test", Test),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/_rotate_signing_secret", RotateSecret),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/log", Log),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/files", ListFiles),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/activity", Activity),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/events", ListEvents),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/events/{event_id}", GetEvent),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events", ListRejected),
    ("DELETE", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events", ClearRejected),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events/_retry", RetryAllRejected),
    ("GET", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events/{event_id}", GetRejected),
    ("DELETE", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events/{event_id}", DeleteRejected),
    ("POST", "/api/v1/org/integrations/eventstream/{integration_id}/rejected_events/{event_id}/_retry", RetryRejected),
];

/// Finds the endpoint of a request and calls it.
pub async fn dispatch(
    app: &App,
    request: &Request,
    request_id: &str,
) -> Result<Response<String>, ApiError> {
    let (method, path) = (request.method(), request.path());
    // A base path may look like the beginning of a path of ours, so the path is first tried as it is.
    let (endpoint, [id, event]) =
        find(method, path).or_else(|_| find(method, without_base_path(path, &app.base_path)))?;
    let tenant = || tenant::of(request, &app.tenant_claim);
    match endpoint {
        Health => responses::ok(&serde_json::json!({"status": "ok"})),
        Document => responses::cacheable(openapi::DOCUMENT),
        Publish => publish::publish(app, &tenant()?, request, request_id).await,
        List => integrations::list(app, &tenant()?).await,
        Register => integrations::register(app, &tenant()?, request).await,
        Preview => preview::preview(app, &tenant()?, request).await,
        TestNew => testing::unregistered(app, &tenant()?, request).await,
        Get => integrations::get(app, &tenant()?, id).await,
        Update => integrations::update(app, &tenant()?, id, request).await,
        Delete => integrations::delete(app, &tenant()?, id, request).await,
        Start => integrations::start(app, &tenant()?, id, request).await,
        Stop => integrations::stop(app, &tenant()?, id, request).await,
        Test => testing::registered(app, &tenant()?, id, request).await,
        RotateSecret => signing::rotate(app, &tenant()?, id, request).await,
        Log => integrations::log(app, &tenant()?, id).await,
        Activity => activity::get(app, &tenant()?, id).await,
        ListEvents => events::list(app, &tenant()?, id, request).await,
        GetEvent => events::get(app, &tenant()?, id, event, request).await,
        ListFiles => files::list(app, &tenant()?, id, request).await,
        ListRejected => rejected_events::list(app, &tenant()?, id).await,
        ClearRejected => rejected_events::clear(app, &tenant()?, id).await,
        RetryAllRejected => rejected_events::retry_all(app, &tenant()?, id, request).await,
        GetRejected => rejected_events::get(app, &tenant()?, id, event).await,
        DeleteRejected => rejected_events::delete(app, &tenant()?, id, event).await,
        RetryRejected => rejected_events::retry(app, &tenant()?, id, event, request).await,
    }
}

/// The endpoint of a method and a path, and the path's parameters, empty where it has fewer than two.
///
/// # Errors
/// 404 where nothing is served at the path, 405 where it takes other methods.
pub fn find<'p>(method: &str, path: &'p str) -> Result<(Endpoint, [&'p str; 2]), ApiError> {
    let mut allowed = Vec::new();
    for (its_method, pattern, endpoint) in ROUTES {
        if let Some(parameters) = parameters(pattern, path) {
            if its_method == method {
                return Ok((endpoint, parameters));
            }
            allowed.push(its_method);
        }
    }
    Err(if allowed.is_empty() {
        ApiError::no_such_path()
    } else {
        ApiError::method_not_allowed(allowed.join(", "))
    })
}

/// The path behind the base path of a custom domain's mapping, which API Gateway leaves in it.
fn without_base_path<'p>(path: &'p str, base: &str) -> &'p str {
    let rest = path.strip_prefix(base);
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// What is in `path` where `pattern` has parameters; `None` where they differ elsewhere.
fn parameters<'p>(pattern: &str, path: &'p str) -> Option<[&'p str; 2]> {
    let mut found = [""; 2];
    let mut places = found.iter_mut();
    let mut parts = path.trim_end_matches('/').split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        if wanted.starts_with('{') {
            *places.next()? = part;
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use properties::{Random, RngExt};

    use super::*;

    const BASE: &str = "/api/v1/org/integrations/eventstream";

    #[test]
    fn every_route_is_found_with_and_without_a_slash_at_its_end() {
        for (method, pattern, endpoint) in ROUTES {
            let path = pattern
                .replace("{integration_id}", "erp-1")
                .replace("{event_id}", "e");
            for path in [path.clone(), path + "/"] {
                let (found, [id, event]) = find(method, &path).unwrap();
                assert_eq!(found, endpoint, "{method} {path}");
                assert_eq!(id == "erp-1", pattern.contains("{integration_id}"));
                assert_eq!(event == "e", pattern.contains("{event_id}"));
            }
        }
    }

    #[test]
    fn the_base_path_of_a_custom_domain_is_left_out() {
        for (path, base, rest) in [
            ("/events/api/v1/org", "/events", "/api/v1/org"),
            ("/a/b/health", "/a/b", "/health"),
            ("/events", "/events", "/events"),
            ("/eventsapi/v1", "/events", "/eventsapi/v1"),
            ("/api/v1/org", "/events", "/api/v1/org"),
            ("/api/v1/org", "", "/api/v1/org"),
            ("", "", ""),
        ] {
            assert_eq!(without_base_path(path, base), rest, "{base} {path}");
        }
    }

    #[test]
    fn other_paths_are_404_and_other_methods_405() {
        for (method, path) in [
            ("GET", ""),
            ("GET", "/"),
            ("GET", "//"),
            ("GET", "/api/v1/org"),
            ("GET", "/health/x"),
            ("GET", "health"),
            ("GET", "//health"),
            ("GET", "/api/v1/org/integrations/eventstreams"),
            ("GET", &format!("{BASE}/a/b")),
            ("GET", &format!("{BASE}//log/x")),
            ("GET", &format!("{BASE}/a/rejected_events/b/c")),
        ] {
            let answer = find(method, path).unwrap_err().render("r");
            assert_eq!(answer.status(), 404, "{method} {path}");
        }
        for (method, path, allow) in [
            ("POST", "/health", "GET"),
            ("HEAD", BASE, "GET, POST"),
            ("get", BASE, "GET, POST"),
            ("POST", &format!("{BASE}/a"), "GET, PATCH, PUT, DELETE"),
            ("GET", &format!("{BASE}/a/_start"), "POST"),
        ] {
            let answer = find(method, path).unwrap_err().render("r");
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.headers()["allow"], allow);
        }
    }

    #[test]
    fn no_method_and_no_path_makes_it_panic() {
        let request = |random: &mut Random| {
            if random.random() {
                return (properties::text(random, 8), properties::text(random, 30));
            }
            let (method, pattern, _) = properties::one_of(random, &ROUTES);
            let method = properties::damaged(random, method, 1);
            (method, properties::damaged(random, pattern, 3))
        };
        properties::holds(request, |(method, path)| {
            let _ = find(method, path);
        });
    }
}
