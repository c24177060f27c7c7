//! The sweep: sends a task for everything that is due and has not been taken up. No state waits for a message that was never sent.

use std::time::{Duration, Instant};

use domain::integration::IntegrationRef;
use domain::message::Message;
use domain::stream::schedule::GRACE;
use domain::tasks::{self, ReplayTask};
use futures_util::stream::{self, StreamExt};
use shared::queue::SendError;
use shared::store::StoreError;
use shared::store::integrations::Due;
use shared::telemetry::chain;

use crate::segments::lock;
use crate::{App, ReplayError};

/// How much of what is due in one partition of the index one sweep takes on; the next one continues.
const LIMIT: i32 = 250;
/// How many integrations are read at a time.
const CONCURRENCY: usize = 8;
/// How many tasks are sent at once.
const TASKS: usize = 10;
/// How long one integration may take to be read.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How long before the end of the invocation no further integration is read.
const RESERVE: Duration = Duration::from_secs(15);

/// Sweeps, in an invocation that has `left` to live.
///
/// # Errors
/// When what is due cannot be listed, no task could be sent, or nothing at all could be read.
pub async fn sweep(app: &App, left: Duration) -> Result<(), ReplayError> {
    let now = app.clock.now();
    let due = app.integrations.due(now.before(GRACE), LIMIT).await?;
    lock(&app.swept).begin(now);
    let due = due.into_iter().filter(|due| !lock(&app.swept).has(due));
    let over = Instant::now() + left.saturating_sub(RESERVE);
    let look = async |due: &Due| {
        if Instant::now() >= over {
            let error = StoreError::Unavailable("the sweep has no time left".into());
            return Err(ReplayError::from(error));
        }
        task(app, due).await
    };
    let send = async |messages, due| {
        app.replay_queue.send(messages).await?;
        lock(&app.swept).note(due, now);
        Ok::<(), SendError>(())
    };
    let sent = send_each(due, look, send).await?;
    if sent > 0 {
        tracing::info!(tasks = sent, "the sweep sends what was overdue");
    }
    Ok(())
}

/// The task for something that the index calls overdue, if it still is: the index may lag behind.
async fn task(app: &App, due: &Due) -> Result<Option<ReplayTask>, ReplayError> {
    let (tenant, integration_id, wake_at) = match due {
        Due::Purge {
            integration_ref, ..
        } => {
            let integration_ref = integration_ref.clone();
            return Ok(Some(ReplayTask::Purge { integration_ref }));
        }
        Due::Wake {
            tenant,
            integration_id,
            wake_at,
        } => (tenant, integration_id, *wake_at),
    };
    let read = app.integrations.get(tenant, integration_id);
    let integration = match tokio::time::timeout(LONGEST_LOOK, read).await {
        Ok(Ok(integration)) => integration,
        Ok(Err(StoreError::NotFound)) => return Ok(None),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(StoreError::Unavailable("no response in time".into()).into()),
    };
    let schedule = integration.stream().map(|stream| stream.schedule);
    let overdue = schedule.filter(|it| it.wake_at.is_some_and(|at| at <= wake_at));
    Ok(overdue.map(|schedule| ReplayTask::Step {
        integration_ref: IntegrationRef::from(&integration),
        turn: schedule.turn,
    }))
}

/// Looks at all that is due, several at a time, and sends the tasks as they are found. One that cannot be looked at holds up no
/// other: it is reported, and left to the next sweep. Returns how many were sent.
async fn send_each(
    due: impl IntoIterator<Item = Due>,
    look: impl AsyncFn(&Due) -> Result<Option<ReplayTask>, ReplayError>,
    send: impl AsyncFn(Vec<Message>, Vec<Due>) -> Result<(), SendError>,
) -> Result<usize, ReplayError> {
    let look = &look;
    let looks = due.into_iter().map(|due| async move {
        let found = look(&due).await;
        (found, due)
    });
    let looks = stream::iter(looks)
        .buffer_unordered(CONCURRENCY)
        .chunks(TASKS);
    let mut looks = std::pin::pin!(looks);
    let (mut sent, mut idle, mut failure) = (0, 0, None);
    while let Some(looked) = looks.next().await {
        let (mut messages, mut due_of_them) = (Vec::new(), Vec::new());
        for (found, due) in looked {
            let message = found.and_then(|task| {
                let message = task.map(|task| tasks::message(&task, Duration::ZERO));
                Ok(message.transpose()?)
            });
            match message {
                Ok(None) => idle += 1,
                Ok(Some(message)) => {
                    messages.push(message);
                    due_of_them.push(due);
                }
                Err(error) => {
                    let (tenant, integration) = due.subject();
                    tracing::error!(
                        tenant,
                        integration,
                        error = chain(&error),
                        "the sweep cannot see whether replay is due"
                    );
                    failure = Some(error);
                }
            }
        }
        let tasks = messages.len();
        match send(messages, due_of_them).await {
            Ok(()) => sent += tasks,
            Err(error) => {
                tracing::error!(tasks, error = chain(&error), "the sweep cannot send tasks");
                failure = Some(error.into());
            }
        }
    }
    match failure {
        Some(error) if sent == 0 && idle == 0 => Err(error),
        _ => Ok(sent),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use domain::time::Millis;
    use futures_util::FutureExt;
    use ulid::Ulid;

    use super::*;

    fn due(number: u32) -> Due {
        Due::Wake {
            tenant: "acme".to_owned(),
            integration_id: number.to_string(),
            wake_at: Millis(0),
        }
    }

    /// Which of 25 tasks are sent where these documents cannot be read; none where the sweep fails.
    fn sent(bad: &[u32]) -> Option<Vec<String>> {
        let sent = RefCell::new(Vec::new());
        let look = async |due: &Due| {
            let (tenant, id) = due.subject();
            if bad.iter().any(|bad| bad.to_string() == id) {
                let error = StoreError::Unreadable("an unknown variant".into());
                return Err(ReplayError::from(error));
            }
            let integration_ref = IntegrationRef {
                tenant: tenant.to_owned(),
                integration_id: id.to_owned(),
                generation: Ulid(7),
            };
            Ok(Some(ReplayTask::Step {
                integration_ref,
                turn: 1,
            }))
        };
        let send = async |messages: Vec<Message>, due: Vec<Due>| {
            assert_eq!(messages.len(), due.len());
            assert!(messages.len() <= TASKS);
            let bodies = messages.into_iter().map(|message| message.body);
            sent.borrow_mut().extend(bodies);
            Ok::<(), SendError>(())
        };
        let swept = send_each((0..25).map(due), look, send).now_or_never();
        swept.unwrap().ok().map(|count| {
            assert_eq!(count, sent.borrow().len());
            sent.take()
        })
    }

    #[test]
    fn a_document_that_cannot_be_read_holds_up_no_other() {
        assert_eq!(sent(&[]).unwrap().len(), 25);
        let without_two = sent(&[0, 13]).unwrap();
        assert_eq!(without_two.len(), 23);
        let is_sent = |id: &str| {
            let id = format!(r#""integration_id":"{id}""#);
            without_two.iter().any(|body| body.contains(&id))
        };
        assert!(!is_sent("0") && !is_sent("13") && is_sent("1") && is_sent("24"));
    }

    #[test]
    fn a_sweep_that_sees_nothing_has_failed() {
        let all: Vec<u32> = (0..25).collect();
        assert_eq!(sent(&all), None);
    }
}
