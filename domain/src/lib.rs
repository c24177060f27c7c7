//! The rules of Event Stream, as pure code: no AWS, no I/O, no async, no clock. `now`, random numbers and new ULIDs are arguments.
//!
//! What decides is here; the functions and the simulation carry it out. In the order in which to read it, each module knowing
//! only those above it:
//!
//! 1. [`time`], [`secret`], [`signing`], [`backoff`]: milliseconds, secrets and their masks, pauses between attempts.
//! 2. [`event`], [`filter`]: what is published, and which of it an integration receives.
//! 3. [`log`]: the event log. Segments, positions in them, repeats, and the seal: how long a stretch of it can still change
//!    (allowed lateness). Readers stay behind the horizon (watermark).
//! 4. [`receiver`], [`metric`]: which addresses are called and with what, what came of a call, and what is counted.
//! 5. [`lease`], [`stream`], [`export`]: the state of a webhook integration and of an S3 integration. A stream has a floor
//!    (low-water mark), gaps that ingest leaves out, and what is owed (backlog). Its health may interrupt it (open circuit
//!    breaker); its schedule says when replay is due, and which turn (fencing token) counts.
//! 6. [`integration`], [`integration_log`]: an integration as it is stored, and the entries of its log.
//! 7. [`lifecycle`]: what each thing that happens to an integration changes.
//! 8. [`message`], [`tasks`], [`ingest_record`]: what travels in the queues; [`calls`]: what a function asks of another one and waits
//!    for; [`preview`]: what a filter would let pass; [`exported`]: a file that was stored; [`fate`]: what has become of events;
//!    [`activity`]: what receivers were sent, counted.
//! 9. [`sending`]: the orders of what sends events, their answers, and whether an event may be sent now; [`run`], [`replay`]: how
//!    delivery posts a run of live events, and how a sender works through what is owed and what waits; [`exporting`]: how a run of the
//!    export writes files.
//!
//! ARCHITECTURE.md has the glossary.

pub mod activity;
pub mod backoff;
pub mod calls;
pub mod event;
pub mod export;
pub mod exported;
pub mod exporting;
pub mod fate;
pub mod filter;
pub mod ingest_record;
pub mod integration;
pub mod integration_log;
pub mod lease;
pub mod lifecycle;
pub mod log;
pub mod message;
pub mod metric;
pub mod preview;
pub mod receiver;
pub mod replay;
pub mod run;
pub mod secret;
pub mod sending;
pub mod signing;
pub mod stream;
pub mod tasks;
pub mod time;
