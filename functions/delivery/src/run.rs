//! Carries out a run: posts its events, and writes down what is left of it.

use std::time::Duration;

use domain::integration::{Integration, IntegrationRef, Target};
use domain::run::Posting;
use domain::sending::{Admission, Do, Holder, Machine, Seen, admit};
use domain::tasks::Run;
use receivers::Post;
use shared::recent::{Ready, RecentError};
use shared::rejections::Rejections;
use shared::sending::{Event, Sending, Stores, drive};
use shared::store::StoreError;

use crate::{App, DeliveryError};

/// Carries out a run in an invocation that has `left` to live.
///
/// # Errors
/// [`DeliveryError::HandedBack`] when it cannot be read or written down for a reason of ours: the queue hands it out again.
pub async fn deliver(app: &App, run: &Run, left: Duration) -> Result<(), DeliveryError> {
    let integration_ref = run.integration_ref();
    let mut posting = Posting::new(run, left.as_millis() as u64);
    let delivering = Delivering::new(app, run, &integration_ref);
    let between = |_: &mut Posting| {};
    drive(
        &mut posting,
        &delivering.sending,
        between,
        |order, holder| Box::pin(delivering.carry_out(order, holder)),
    )
    .await;
    delivering.sending.end().await;
    if posting.is_handed_back() {
        Err(DeliveryError::HandedBack)
    } else {
        Ok(())
    }
}

struct Delivering<'a> {
    app: &'a App,
    run: &'a Run,
    sending: Sending<'a>,
}

impl<'a> Delivering<'a> {
    fn new(app: &'a App, run: &'a Run, integration_ref: &'a IntegrationRef) -> Delivering<'a> {
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
        Delivering {
            app,
            run,
            sending: Sending::new(stores, rejections, integration_ref),
        }
    }

    async fn carry_out(&self, order: Do, holder: Holder) -> Seen {
        let name = order.order();
        let answer = match order {
            Do::Post { id, attempt, .. } => self.post(id, attempt, holder).await,
            order => self.others(order).await,
        };
        match answer {
            Ok(seen) => seen,
            Err(error) => self.sending.failed(name, &error),
        }
    }

    async fn others(&self, order: Do) -> Result<Seen, RecentError> {
        let sending = &self.sending;
        Ok(match order {
            Do::Look => {
                let segment = self.run.segment;
                let posts = |it: &Integration| admit(it, segment) == Admission::Post;
                Seen::Looked(sending.look(posts).await?)
            }
            Do::Apply(input) => Seen::Applied(sending.apply(&input).await?.map(Box::new)),
            Do::Put(items) => {
                sending.put(&items).await?;
                Seen::Put
            }
            Do::Reject {
                id, reason, answer, ..
            } => {
                sending.reject(self.event(id), reason, answer).await;
                Seen::Rejected { id }
            }
            // A run neither reads nor deletes.
            Do::List | Do::Read { .. } | Do::Drop(_) | Do::Post { .. } => {
                return Err(StoreError::NotFound.into());
            }
        })
    }

    async fn post(&self, id: u64, attempt: u32, holder: Holder) -> Result<Seen, RecentError> {
        let (app, event) = (self.app, self.event(id));
        let post = async |ready: Ready| {
            let url = match &ready.integration.target {
                Target::Webhook { callback, .. } => callback.callback_url.as_str(),
                Target::S3 { .. } => "",
            };
            let post = Post {
                url,
                credentials: &ready.credentials,
                event_id: event.id,
                body: event.body,
            };
            let (now, begins) = (app.clock.now(), || self.sending.begun(id));
            app.receivers.post_noting(&post, now, begins).await
        };
        self.sending.post((id, attempt), holder, event, post).await
    }

    fn event(&self, id: u64) -> Event<'a> {
        let number = Posting::number(id);
        let event = &self.run.events[number];
        Event {
            event: self.run.event(number),
            id: &event.id,
            name: &event.name,
            body: event.body.get(),
        }
    }
}
