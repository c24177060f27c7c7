//! What Lambda and the scheduler do for a stack: messages are handed to functions, ticks come, and time passes.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::QueueAttributeName;
use domain::log::EXPORT_SEALS_BEHIND;
use shared::recent::Recent;

use super::emulator::{Queues, delete, event, queue_attribute, receive};
use super::{SEAL, World, run_export};

/// The time limit of ingest.
const INGEST_TIME_LIMIT: Duration = Duration::from_secs(30);
/// The time limit of delivery and of replay.
const TIME_LIMIT: Duration = Duration::from_secs(30);

impl World {
    /// Pumps the queues through the handlers until nothing can be received.
    pub async fn drain(&self) {
        while self.pump().await > 0 {}
    }

    /// Pumps the queues, waiting for delayed messages, until `done`.
    pub async fn drain_until(&self, deadline: Duration, done: impl Fn() -> bool) {
        let ended = tokio::time::timeout(deadline, async {
            while !done() {
                self.pump().await;
            }
        });
        ended
            .await
            .expect("what was waited for did not happen in time");
        self.drain().await;
    }

    /// Pumps the queues, sweeps and lets time pass, until `done`: attempts that failed are made again.
    pub async fn pass_until(&self, deadline: Duration, done: impl Fn() -> bool) {
        let ended = tokio::time::timeout(deadline, async {
            while !done() {
                self.drain().await;
                self.pass(Duration::from_secs(2));
                self.sweep().await;
            }
        });
        ended
            .await
            .expect("what was waited for did not happen in time");
        self.drain().await;
    }

    /// Lets time pass and replay work until every stream has what it was owed.
    pub async fn settle(&self) {
        self.drain().await;
        for _ in 0..3 {
            self.pass(SEAL * 4);
            self.sweep().await;
            self.drain().await;
        }
    }

    /// One sweep of replay: it sends tasks for what is overdue.
    pub async fn sweep(&self) {
        let sweep = replay::Invocation::Tick {
            tick: "sweep".to_owned(),
        };
        replay::handle(&self.replay, sweep, TIME_LIMIT)
            .await
            .unwrap();
    }

    /// One tick of the export, once everything published so far is sealed.
    pub async fn export_tick(&self) {
        self.pass(SEAL * (EXPORT_SEALS_BEHIND + 1));
        let tick = export::Invocation::Tick {
            tick: "export".to_owned(),
        };
        run_export(&self.export, tick).await.unwrap();
        self.drain().await;
    }

    /// The texts in the dead-letter queue.
    pub async fn dead_letters(&self) -> Vec<String> {
        let messages = receive(&self.sqs, &self.queues.dead_letters, 0).await;
        messages
            .into_iter()
            .map(|message| message.body.unwrap())
            .collect()
    }

    /// How many messages of a queue wait to be received.
    pub async fn waiting(&self, queue: &str) -> String {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        queue_attribute(&self.sqs, queue, name).await
    }

    /// Hands the delivery queue's messages to their handler once; returns how many were handed back.
    pub async fn deliver_once(&self) -> usize {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let response = self.handle(&self.queues.delivery, event(&messages)).await;
        response.batch_item_failures.len()
    }

    /// Another process of the delivery function, which reaches KMS by a configuration of its own.
    pub fn other_delivery(&self, config: &SdkConfig) -> delivery::App {
        let recent = Recent::new(
            self.services.integrations(),
            self.services(config).secrets(),
        );
        delivery::App {
            recent,
            ..delivery::App::new(&self.services)
        }
    }

    /// Hands the delivery queue's messages once to a process of the delivery function, and leaves them in the queue; returns
    /// how many were handed back.
    pub async fn hand_to(&self, app: &delivery::App) -> usize {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let batch = delivery::Invocation::Batch(event(&messages));
        match delivery::handle(app, batch, TIME_LIMIT).await.unwrap() {
            delivery::Answer::Batch(response) => response.batch_item_failures.len(),
            answer => panic!("a batch was asked for: {answer:?}"),
        }
    }

    /// Hands the delivery queue's messages once to another process of the delivery function.
    pub async fn deliver_once_by(&self, app: &delivery::App) {
        let messages = receive(&self.sqs, &self.queues.delivery, 0).await;
        let batch = delivery::Invocation::Batch(event(&messages));
        delivery::handle(app, batch, TIME_LIMIT).await.unwrap();
        delete(&self.sqs, &self.queues.delivery, &messages).await;
    }

    /// Pumps until the stream is interrupted: failures count for an outage once they have gone on for some seconds.
    pub async fn drain_until_interrupted(&self, id: &str, deadline: Duration) {
        let interrupted = async {
            loop {
                self.drain().await;
                let shown = self.call("GET", &format!("/{id}"), "").await.body;
                if shown["health"] == "interrupted" {
                    break;
                }
                self.pass(Duration::from_secs(1));
            }
        };
        let interrupted = tokio::time::timeout(deadline, interrupted).await;
        interrupted.expect("the stream was not interrupted in time");
    }

    /// Pumps the ingest queue only: events are appended and routed, and not yet sent.
    pub async fn drain_ingest(&self) {
        while self.pump_queues(&[&self.queues.ingest]).await > 0 {}
    }

    /// Pumps every queue a few times: some of what waits is done, and not all of it.
    pub async fn drain_some(&self) {
        for _ in 0..3 {
            self.pump().await;
        }
    }

    /// Pumps the replay queue only: what replay sends is not delivered yet.
    pub async fn drain_replay(&self) {
        while self.pump_queues(&[&self.queues.replay]).await > 0 {}
    }

    /// Hands up to ten tasks of exports to another process, one by one; returns how many.
    pub async fn pump_exports(&self, app: &export::App) -> usize {
        let messages = receive(&self.sqs, &self.queues.export, 0).await;
        for message in messages.chunks(1) {
            let batch = export::Invocation::Batch(event(message));
            let response = run_export(app, batch).await.unwrap();
            assert!(response.batch_item_failures.is_empty());
        }
        if !messages.is_empty() {
            delete(&self.sqs, &self.queues.export, &messages).await;
        }
        messages.len()
    }

    async fn pump(&self) -> usize {
        let Queues {
            ingest,
            delivery,
            replay,
            export,
            ..
        } = &self.queues;
        self.pump_queues(&[ingest, delivery, replay, export]).await
    }

    async fn pump_queues(&self, queues: &[&String]) -> usize {
        let mut handled = 0;
        for queue in queues {
            let messages = receive(&self.sqs, queue, 0).await;
            handled += messages.len();
            if !messages.is_empty() {
                let response = self.handle(queue, event(&messages)).await;
                assert!(
                    response.batch_item_failures.is_empty(),
                    "records failed: {:?}",
                    response.batch_item_failures
                );
                delete(&self.sqs, queue, &messages).await;
            }
        }
        handled
    }

    async fn handle(&self, queue: &str, event: SqsEvent) -> SqsBatchResponse {
        if queue == self.queues.ingest {
            let deadline = self.now().after(INGEST_TIME_LIMIT);
            ingest::handle(&self.ingest, event, deadline).await
        } else if queue == self.queues.delivery {
            let batch = delivery::Invocation::Batch(event);
            match delivery::handle(&self.delivery, batch, TIME_LIMIT)
                .await
                .unwrap()
            {
                delivery::Answer::Batch(response) => response,
                answer => panic!("a batch was asked for: {answer:?}"),
            }
        } else if queue == self.queues.replay {
            replay::handle(&self.replay, replay::Invocation::Batch(event), TIME_LIMIT)
                .await
                .unwrap()
        } else {
            run_export(&self.export, export::Invocation::Batch(event))
                .await
                .unwrap()
        }
    }

    /// Hands one text to ingest, as the bus's rule would.
    pub async fn send_to_ingest(&self, text: &str) {
        self.sqs
            .send_message()
            .queue_url(&self.queues.ingest)
            .message_body(text)
            .send()
            .await
            .unwrap();
    }
}
