//! What a step needs while it is at work.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use domain::integration::{Integration, IntegrationRef};
use domain::replay::reading::Reading;
use shared::rejections::Rejections;
use shared::sending::{Sending, Stores};
use shared::store::event_log::Reader;

use crate::App;
use crate::segments::Segments;

/// With what the orders of a step are carried out.
pub struct Work<'a> {
    /// What replay works with.
    pub app: &'a App,
    /// The integration.
    pub integration_ref: &'a IntegrationRef,
    /// When the step began.
    pub began: Instant,
    /// How long it had then.
    pub left: Duration,
    /// The integration as it was written last: which filter it reads under.
    pub integration: Mutex<Option<Integration>>,
    /// What is unpacked.
    pub segments: Segments<'a>,
    /// Where the last read ended, to continue there.
    pub reading: Mutex<Option<Read>>,
    /// Carries out the orders that a run gives as well.
    pub sending: Sending<'a>,
}

impl<'a> Work<'a> {
    /// That of an invocation which has `left` to live.
    pub fn new(app: &'a App, integration_ref: &'a IntegrationRef, left: Duration) -> Work<'a> {
        let stores = Stores {
            clock: &app.clock,
            metrics: &app.metrics,
            counter: &app.counter,
            lifecycle: &app.lifecycle,
            recent: &app.recent,
            waiting_events: &app.waiting_events,
        };
        let rejections = Rejections::new(
            &app.rejected_events,
            &app.fates,
            &app.integration_log,
            &app.clock,
        );
        Work {
            app,
            integration_ref,
            began: Instant::now(),
            left,
            integration: Mutex::default(),
            segments: Segments::new(&app.event_log, &integration_ref.tenant),
            reading: Mutex::default(),
            sending: Sending::new(stores, rejections, integration_ref),
        }
    }
}

/// A range that is being read, and its pages.
pub struct Read {
    /// How far it is.
    pub reading: Reading,
    /// The pages that follow.
    pub pages: Reader,
}
