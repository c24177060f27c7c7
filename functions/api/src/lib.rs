//! The REST API: integrations, their logs and rejected events, and publishing.

mod activity;
pub mod bodies;
mod buckets;
pub mod console;
pub mod error;
mod etag;
mod events;
mod files;
pub mod functions;
mod integrations;
pub mod limits;
pub mod live_queues;
mod openapi;
mod preview;
pub mod publish;
mod rejected_events;
mod replays;
pub mod request;
mod responses;
pub mod routes;
mod signing;
mod targets;
mod tenant;
mod testing;

use domain::lifecycle::Rules;
use http::Response;
use shared::clock::Clock;
use shared::lifecycle::Lifecycle;
use shared::metrics::Metrics;
use shared::queue::Queue;
use shared::secrets::Secrets;
use shared::services::Services;
use shared::store::activities::Activities;
use shared::store::event_log::EventLog;
use shared::store::exported_files::ExportedFiles;
use shared::store::fates::Fates;
use shared::store::integration_log::IntegrationLog;
use shared::store::integrations::Integrations;
use shared::store::rejected_events::RejectedEvents;
use shared::store::waiting_events::WaitingEvents;
use uuid::Uuid;

use crate::console::Console;
use crate::functions::{DeliveryFunction, ExportFunction};
use crate::live_queues::LiveQueues;
use crate::request::Request;

/// What the API works with.
#[derive(Debug)]
pub struct App {
    /// The current time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// The page for people.
    pub console: Console,
    /// What the deployment decides.
    pub rules: Rules,
    /// What happens to integrations.
    pub lifecycle: Lifecycle,
    /// What tenants registered.
    pub integrations: Integrations,
    /// Their logs.
    pub integration_log: IntegrationLog,
    /// What was published: read for previews, and to say what became of it.
    pub event_log: EventLog,
    /// The files of S3 integrations.
    pub exported_files: ExportedFiles,
    /// What receivers refused.
    pub rejected_events: RejectedEvents,
    /// What receivers have been sent lately.
    pub activities: Activities,
    /// What is noted of events that were not delivered.
    pub fates: Fates,
    /// What waits until it may be sent.
    pub waiting_events: WaitingEvents,
    /// Encrypts what callers entrust to us.
    pub secrets: Secrets,
    /// Where published events go.
    pub ingest_queue: Queue,
    /// Where live events may still be.
    pub live_queues: LiveQueues,
    /// The role of export, which tenants' roles have to trust.
    pub export_role_arn: String,
    /// The function that tries rejected events again, and tests receivers.
    pub delivery_function: DeliveryFunction,
    /// The function that tests buckets.
    pub export_function: ExportFunction,
    /// The claim of a token that names the tenant.
    pub tenant_claim: String,
    /// How many integrations of one tenant that send what is more than a day old may run at a time.
    pub max_running_replays: usize,
    /// The base path under which a custom domain maps this API: `/events`; empty without one.
    pub base_path: String,
    /// Whether receivers may be called over plain HTTP and at addresses that are not public.
    pub allow_private_receivers: bool,
    /// Whether responses show secrets as they are, as the API page's samples do (docs/api.md); masked otherwise.
    pub plain_secrets: bool,
}

impl App {
    /// Made of what template.yaml gives this function.
    pub fn new(services: &Services) -> App {
        let Services {
            config,
            clock,
            environment,
            ..
        } = services;
        let delivery_function = environment.required("DELIVERY_FUNCTION").to_owned();
        let export_function = environment.required("EXPORT_FUNCTION").to_owned();
        App {
            clock: clock.clone(),
            metrics: services.metrics.clone(),
            console: Console::new(environment),
            rules: services.rules(),
            lifecycle: services.lifecycle(),
            integrations: services.integrations(),
            integration_log: services.integration_log(),
            event_log: services.event_log(),
            exported_files: services.exported_files(),
            rejected_events: services.rejected_events(),
            activities: services.activities(),
            fates: services.fates(),
            waiting_events: services.waiting_events(),
            secrets: services.secrets(),
            ingest_queue: services.queue("INGEST_QUEUE_URL"),
            live_queues: LiveQueues::new(services),
            delivery_function: DeliveryFunction::new(config.into(), delivery_function),
            export_function: ExportFunction::new(config.into(), export_function),
            export_role_arn: environment.required("EXPORT_ROLE_ARN").to_owned(),
            tenant_claim: environment.required("TENANT_CLAIM").to_owned(),
            max_running_replays: environment.parsed("MAX_RUNNING_REPLAYS"),
            base_path: environment.optional("API_BASE_PATH").to_owned(),
            allow_private_receivers: environment.parsed("ALLOW_PRIVATE_RECEIVERS"),
            plain_secrets: environment.required("SECRETS_IN_RESPONSES") == "plain",
        }
    }
}

/// The most that a line of the log shows of a path.
const MAX_PATH_CHARS: usize = 200;

/// A text of a caller's as it may be in a line of the log: what is not visible ASCII might end the line for some reader of it.
fn plain(text: &str) -> String {
    let visible = |letter: char| match letter.is_ascii_graphic() {
        true => letter,
        false => '?',
    };
    text.chars().take(MAX_PATH_CHARS).map(visible).collect()
}

/// Handles a request. Whatever goes wrong becomes a response; every response carries `x-request-id`.
pub async fn handle(app: &App, request: Request) -> Response<String> {
    let request_id = match request.id() {
        Some(id) => id.to_owned(),
        None => Uuid::new_v4().to_string(),
    };
    let mut response = match app.console.serve(&request, &app.base_path) {
        Some(page) => page,
        None => {
            let answer = routes::dispatch(app, &request, &request_id).await;
            answer.unwrap_or_else(|error| error.render(&request_id))
        }
    };
    // Reads change nothing, and publishing has said more.
    if request.method() != "GET" && response.status() != 202 {
        tracing::info!(
            request_id,
            tenant = tenant::of(&request, &app.tenant_claim).unwrap_or_default(),
            method = plain(request.method()),
            path = plain(request.path()),
            status = response.status().as_u16(),
            "requested"
        );
    }
    if let Ok(value) = request_id.parse() {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_does_not_end_a_line_of_the_log() {
        assert_eq!(plain("/api/v1/org"), "/api/v1/org");
        assert_eq!(plain("/a\u{85}b\u{2028}c\nd é"), "/a?b?c?d??");
        assert_eq!(plain(&"x".repeat(1_000)).len(), MAX_PATH_CHARS);
    }
}
