//! Runs a history: one thing after another, until nothing is due.

use domain::integration::{Integration, Target};
use domain::lifecycle::Input;
use domain::log::position::EventRef;
use domain::stream::schedule::GRACE;
use domain::time::Millis;
use ulid::Ulid;

use crate::history::{BEGIN, Call, INTEGRATIONS, MINUTE, SEAL, filter};
use crate::work::{Body, Happening, Op, Process};
use crate::world::{AFTERMATH, REST, World, url, url_index};

/// From this one on, events are good.
const FIRST_GOOD: u32 = 1_000;

/// Sorts before every event of the event log.
const FIRST: EventRef = EventRef {
    segment: Ulid(0),
    index: 0,
    shard: 0,
};

impl World {
    /// Runs the history until nothing is due any more.
    pub fn run(&mut self) {
        let last = self.history.end + AFTERMATH + REST;
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            if at > last {
                break;
            }
            self.now = at;
            self.happen(happening);
            if self.ledger.broken.is_some() {
                break;
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        if !matches!(happening, Happening::Go(_)) {
            self.trace(0, &happening);
        }
        match happening {
            Happening::Publish(count) => {
                let ids = (self.next_event..self.next_event + count).collect();
                self.next_event += count;
                self.report.published += count as usize;
                self.send(Body::Events(ids), 0);
            }
            Happening::PublishGood => {
                // One of each name, so that every filter lets one pass.
                let first = self.next_event.max(FIRST_GOOD) / 3 * 3 + 3;
                self.next_event = first + 2;
                self.send(Body::Events(vec![first, first + 1]), 0);
            }
            Happening::Call(call) => self.call(call),
            Happening::Receive(message) => self.receive(message),
            Happening::Go(process) => self.go(process),
            Happening::Late(write) => {
                self.write(*write);
            }
            Happening::Appears(segment, ids) => {
                self.log.insert(segment, ids);
            }
            Happening::Sweep => self.sweep(),
            Happening::Look => self.look(),
            Happening::Purge(generation) => {
                self.parked
                    .retain(|(integration_ref, _), _| *integration_ref != generation);
                self.chunks
                    .retain(|(integration_ref, _), _| *integration_ref != generation);
            }
        }
    }

    /// Checks every minute whether anything waits for too long, where nothing goes wrong on our side, or has not for a while: an
    /// interrupted stream for a probe that was due two minutes ago, or a parked event for replay, which nothing will wake.
    fn look(&mut self) {
        let is_sound = self.history.is_sound() || self.now > self.history.end + 10 * MINUTE;
        let is_fast = self.history.read_millis.1 <= 50;
        for (who, integration) in self.integrations.iter().enumerate() {
            let Some(integration) = integration.as_ref().filter(|it| it.is_running()) else {
                continue;
            };
            let Some(stream) = integration.stream() else {
                continue;
            };
            let of = (integration.generation, FIRST);
            let next = self.parked.range(of..).next().map(|(key, _)| *key);
            let forgotten = next
                .map(|(integration_ref, event)| (integration_ref, event, self.id_of(&event)))
                .filter(|(integration_ref, ..)| *integration_ref == of.0)
                .filter(|_| is_sound && stream.schedule.wake_at.is_none());
            self.ledger
                .parked_unheard(who, of.0, forgotten.map(|(_, at, id)| (at, id)));
            let interruption = stream.health.interruption;
            if let Some(it) = interruption.filter(|_| is_sound && is_fast) {
                let due = it.next_probe_at.0 + 2 * MINUTE + SEAL;
                self.ledger
                    .probe_due(integration.generation, who, due, self.now);
            }
        }
        // Nothing happens in the days for which an integration is stopped.
        let next = self.now + MINUTE;
        let is_idle = next > BEGIN + 60 * MINUTE && next < self.history.end - 10 * MINUTE;
        let next = match is_idle {
            true => self.history.end - 10 * MINUTE,
            false => next,
        };
        if next < self.history.end + AFTERMATH + REST {
            self.at(next, Happening::Look);
        }
    }

    fn receive(&mut self, message: u64) {
        let Some(body) = self.messages.get(&message).cloned() else {
            return;
        };
        let (visibility, limit, repeats) = match body {
            Body::Events(_) => (180_000, 30_000, self.history.repeats),
            Body::Dispatch(..) => (360_000, 60_000, self.history.repeats),
            Body::Step(..) => (720_000, 120_000, self.history.step_repeats),
        };
        if self.unlucky(repeats) {
            // Handed out a second time, whatever becomes of the first.
            self.begin(body.clone(), None, limit);
        }
        self.at(self.now + visibility, Happening::Receive(message));
        self.begin(body, Some(message), limit);
    }

    fn begin(&mut self, body: Body, message: Option<u64>, limit: u64) {
        let skew = self.skew();
        let local = Millis(self.now.saturating_add_signed(skew));
        let holder = self.ulid(local);
        let process = Process::of(
            body,
            message,
            skew,
            self.now + limit,
            local,
            holder,
            self.rules,
        );
        self.spawn(process);
    }

    fn call(&mut self, call: Call) {
        let skew = self.skew();
        let op = match call {
            Call::Register(who, ago) => Op::Register(who, ago, None),
            Call::RegisterTemporary(who, ago, length) => Op::Register(who, ago, Some(length)),
            Call::Start(who) => Op::Call(who, Input::Start),
            Call::Stop(who) => {
                let reason = "Stopped via API.".to_owned();
                Op::Call(who, Input::Stop { reason })
            }
            Call::SetFilter(who, index) => {
                self.update(who, |integration| integration.filter = filter(index));
                return;
            }
            Call::SwitchUrl(who) => {
                self.update(who, |integration| {
                    if let Target::Webhook { callback, .. } = &mut integration.target {
                        callback.callback_url = url(1 - url_index(&callback.callback_url));
                    }
                });
                return;
            }
            Call::Delete(who) => {
                if let Some(gone) = self.integrations[who].take() {
                    self.ledger.delete(gone.generation);
                    self.at(self.now + 15 * MINUTE, Happening::Purge(gone.generation));
                }
                return;
            }
        };
        self.spawn(Process::api(op, skew, self.now + MINUTE));
    }

    /// Updates an integration that is stopped: a conditional write right behind the read.
    fn update(&mut self, who: usize, change: impl FnOnce(&mut Integration)) {
        if let Some(integration) = self.integrations[who]
            .as_mut()
            .filter(|it| !it.is_running())
        {
            change(integration);
            integration.version += 1;
        }
    }

    fn sweep(&mut self) {
        self.sweeps.remove(&self.now);
        let skew = self.skew();
        let overdue = Millis(self.now.saturating_add_signed(skew)).before(GRACE);
        for who in 0..INTEGRATIONS {
            let due = self.integrations[who].as_ref().and_then(|integration| {
                let schedule = integration.stream()?.schedule;
                Some((integration.generation, schedule.turn, schedule.wake_at?))
            });
            let Some((generation, turn, wake_at)) = due else {
                continue;
            };
            if wake_at <= overdue {
                self.send(Body::Step((who, generation), turn), 0);
            }
            self.look_after(wake_at.max(Millis(self.now)));
        }
    }
}
