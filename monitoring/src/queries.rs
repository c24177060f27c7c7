//! Saved queries of Logs Insights. What they filter by are messages and fields of our log lines.

use crate::source::FUNCTIONS;

/// A saved query.
#[derive(Clone, Debug)]
pub struct Query {
    /// What it answers.
    pub name: &'static str,
    /// Its name in the template; `Query` follows.
    pub id: &'static str,
    /// Its text, one command a line.
    pub text: &'static str,
    /// The functions whose log groups it reads.
    pub functions: &'static [&'static str],
}

/// Who calls receivers.
const SENDERS: &[&str] = &["delivery", "replay"];

/// All saved queries. What stands for an id in them is replaced by hand.
pub const ALL: [Query; 6] = [
    Query {
        name: "what happened to event X",
        id: "WhatHappenedToEvent",
        text: "fields @timestamp, message, tenant, integration, attempt, status, latency_ms, reason, request_id, segment
| filter event like /00000000-0000-0000-0000-000000000000/
| sort @timestamp asc
| limit 200",
        functions: &FUNCTIONS,
    },
    Query {
        name: "what happened in request X",
        id: "WhatHappenedInRequest",
        text: "fields @timestamp, message, tenant, method, path, status, count, event, error
| filter request_id like /X/
| sort @timestamp asc
| limit 200",
        functions: &["api", "ingest"],
    },
    Query {
        name: "who fails most",
        id: "WhoFailsMost",
        text: "filter message = 'failed' or message = 'gone' or message = 'an upload failed'
| stats count(*) as failures, max(latency_ms) as longest by tenant, integration, reason
| sort failures desc
| limit 50",
        functions: &["delivery", "replay", "export"],
    },
    Query {
        name: "slowest receivers",
        id: "SlowestReceivers",
        text: "filter ispresent(latency_ms) and ispresent(integration)
| stats avg(latency_ms) as mean, pct(latency_ms, 99) as p99, max(latency_ms) as longest, count(*) as lines by tenant, integration
| sort p99 desc
| limit 50",
        functions: SENDERS,
    },
    Query {
        name: "what was rejected",
        id: "WhatWasRejected",
        text: "fields @timestamp, tenant, integration, event, attempt, status, reason
| filter message = 'rejected'
| sort @timestamp desc
| limit 200",
        functions: SENDERS,
    },
    Query {
        name: "metrics by tenant and integration",
        id: "MetricsByTenant",
        text: "filter ispresent(Function) and ispresent(tenant)
| stats count(*) as invocations, sum(EventsAccepted) as accepted, sum(EventsAppended) as appended, sum(EventsParked) as parked, sum(EventsRejected) as rejected, sum(FileLines) as exported by tenant, integration
| sort invocations desc
| limit 50",
        functions: &FUNCTIONS,
    },
];
