//! Whether an event may be sent now: the only place that decides it.

use ulid::Ulid;

use crate::integration::Integration;

/// What becomes of a run, by the integration as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its events are posted.
    Post,
    /// They wait for a sender: the stream is served, or stopped.
    Wait,
    /// They are from before a restart that came too late to catch up, or the integration has finished.
    Drop,
}

/// What becomes of live events of a segment, by the integration as it was read a moment ago.
pub fn admit(integration: &Integration, segment: Ulid) -> Admission {
    let Some(stream) = integration.stream() else {
        return Admission::Drop;
    };
    if segment < stream.floor.first_id() || integration.is_finished {
        Admission::Drop
    } else if integration.is_running() && stream.served().is_none() {
        Admission::Post
    } else {
        Admission::Wait
    }
}

/// For what an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A run of live events.
    Run {
        /// Their segment.
        segment: Ulid,
        /// The start of the integration ([`crate::stream::Stream::epoch`]).
        epoch: u64,
    },
    /// A step of replay.
    Turn {
        /// The start of the integration.
        epoch: u64,
        /// The turn that the step holds.
        turn: u64,
    },
}

/// What the integration, as it is at this moment, says of an event that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It may be sent.
    Send,
    /// The filter does not let it pass any more.
    Unwanted,
    /// Nothing may be sent for this holder any more.
    Over,
}

/// Looks at the integration, read a moment ago, before an attempt of an event of this name.
pub fn look(integration: &Integration, holder: Holder, name: &str) -> Look {
    let Some(stream) = integration.stream() else {
        return Look::Over;
    };
    let is_held = match holder {
        Holder::Run { segment, epoch } => {
            stream.epoch == epoch && admit(integration, segment) == Admission::Post
        }
        Holder::Turn { epoch, turn } => {
            integration.is_running() && stream.epoch == epoch && stream.schedule.turn == turn
        }
    };
    if !is_held {
        Look::Over
    } else if integration.passes(name) {
        Look::Send
    } else {
        Look::Unwanted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::filter::Filter;
    use crate::integration::tests::webhook;
    use crate::time::Millis;

    const SEAL: Duration = Duration::from_secs(10);

    #[test]
    fn what_becomes_of_a_run_is_decided_by_the_integration_of_now() {
        let mut integration = webhook(Millis(1_000));
        let (early, late) = (Ulid(2), Millis(2_000).first_id());
        let drops = Admission::Drop;
        assert_eq!(admit(&integration, early), drops, "before the floor");
        assert_eq!(admit(&integration, late), Admission::Wait, "it is served");
        integration
            .stream_mut()
            .unwrap()
            .resume(Millis(1_000), SEAL);
        assert_eq!(admit(&integration, late), Admission::Post);
        integration.stop(Millis(3_000), SEAL);
        assert_eq!(admit(&integration, late), Admission::Wait);
        integration.is_finished = true;
        assert_eq!(admit(&integration, late), drops);
    }

    #[test]
    fn a_look_asks_for_the_holder_first_and_for_the_filter_then() {
        let mut integration = webhook(Millis(1_000));
        integration.filter = Some(Filter {
            event_filter: Some(vec!["order.created".to_owned()]),
            entity_filter: None,
        });
        let (epoch, turn) = (0, integration.stream().unwrap().schedule.turn);
        let segment = Millis(2_000).first_id();
        let run = |epoch| Holder::Run { segment, epoch };
        let step = |epoch, turn| Holder::Turn { epoch, turn };
        let looks = |integration: &Integration, name| {
            [
                run(epoch),
                run(epoch + 1),
                step(epoch, turn),
                step(epoch, turn + 1),
                step(epoch + 1, turn),
            ]
            .map(|holder| look(integration, holder, name))
        };
        let (send, over, unwanted) = (Look::Send, Look::Over, Look::Unwanted);
        let served = looks(&integration, "order.created");
        assert_eq!(served, [over, over, send, over, over], "it is served");
        integration
            .stream_mut()
            .unwrap()
            .resume(Millis(1_000), SEAL);
        assert_eq!(
            looks(&integration, "order.created"),
            [send, over, send, over, over]
        );
        assert_eq!(
            looks(&integration, "a.b"),
            [unwanted, over, unwanted, over, over]
        );
        integration.stop(Millis(3_000), SEAL);
        assert_eq!(looks(&integration, "order.created"), [over; 5]);
    }
}
