mod evidence;
mod listing;

use std::collections::BTreeMap;
use std::time::Duration;

use ulid::Ulid;

use super::*;
use crate::integration::Integration;
use crate::integration::tests::webhook;
use crate::lifecycle::{Applied, Input, Ran, Rules, StepInput, apply};
use crate::log::position::{EventRef, Position};
use crate::receiver::outcome::{Failure, Outcome};
use crate::sending::{Do, Machine, Now, Order, Posted, Seen};
use crate::stream::Stream;
use crate::stream::waiting::{StoredWaiting, Waiting, WaitingKey};
use crate::time::Millis;

const RULES: Rules = Rules {
    seal: Duration::from_secs(10),
    give_up: Duration::from_secs(5 * 24 * 3600),
    retention: Duration::from_secs(90 * 24 * 3600),
};

fn at(seconds: u64) -> Millis {
    Millis(1_700_000_000_000).after(Duration::from_secs(seconds))
}

/// A table, an event log of segments of one event, and a clock.
struct World {
    integration: Integration,
    waiting: BTreeMap<WaitingKey, Waiting>,
    log: Vec<Ulid>,
    now: u64,
    wrote: Vec<String>,
    ids: u128,
    limits: Limits,
    /// How many events were listed at a time, at most.
    listed: usize,
    begun: Vec<u64>,
    /// The events that were given up, or refused for good.
    rejected: Vec<usize>,
    /// The order that fails, each time, until this instant.
    fails: Option<Order>,
    fails_until: u64,
    /// The events from this one on are stored by delivery, too, while the first checkpoint is written.
    late: Option<usize>,
}

/// How the receiver responds to an event, and after how many milliseconds.
type Respond<'a> = &'a dyn Fn(usize, u64) -> (Posted, u64);

fn delivered() -> Posted {
    Posted::Made(Outcome::Delivered, String::new())
}

fn failed(is_refusal: bool) -> Posted {
    let failure = Failure {
        reason: "no".to_owned(),
        retry_after: None,
        is_refusal,
    };
    Posted::Made(Outcome::Failed(failure), "Request failed".to_owned())
}

impl World {
    /// A stream that owes so many events, a second after another.
    fn owing(count: u64) -> World {
        World {
            integration: webhook(at(0)),
            waiting: BTreeMap::new(),
            log: (0..count).map(|n| at(n + 1).first_id()).collect(),
            now: (count + 60) * 1_000,
            wrote: Vec::new(),
            ids: 1,
            limits: LIMITS,
            listed: 0,
            begun: Vec::new(),
            rejected: Vec::new(),
            fails: None,
            fails_until: u64::MAX,
            late: None,
        }
    }

    fn wall(&self) -> Millis {
        at(0).after(Duration::from_millis(self.now))
    }

    fn number(&self, event: EventRef) -> usize {
        self.log.iter().position(|it| *it == event.segment).unwrap()
    }

    fn apply(&mut self, input: &Input) -> Applied {
        let change = apply(&self.integration, input, self.wall(), &RULES);
        if let Some(next) = change.next {
            self.integration = next;
        }
        Applied {
            integration: self.integration.clone(),
            verdict: change.verdict,
            decided_at: self.wall(),
            actions: Vec::new(),
        }
    }

    /// Runs one step of 90 seconds; returns each event that was posted, and when.
    fn step(&mut self, respond: Respond) -> Vec<(usize, u64)> {
        let began = self.now;
        let turn = self.integration.stream().unwrap().schedule.turn;
        let now = |world: &World| Now {
            wall: world.wall(),
            tick: world.now - began,
        };
        let over = self.wall().after(Duration::from_secs(90));
        self.ids += 1;
        let mut sender = Sender::new(turn, Ulid(self.ids), now(self), over, RULES, self.limits);
        let mut due: BTreeMap<(u64, u128), Seen> = BTreeMap::new();
        let mut posts = Vec::new();
        while !sender.is_over() {
            self.ids += 100;
            while let Some(todo) = sender.next(now(self), Ulid(self.ids)) {
                self.ids += 100;
                let (seen, took) = self.carry_out(todo, respond, &mut posts);
                due.insert((self.now + took, self.ids), seen);
                let at = self.now - began;
                for id in std::mem::take(&mut self.begun) {
                    sender.seen(Seen::Begun { id, at }, now(self));
                }
            }
            let wake = began + sender.wake(now(self));
            match due.first_key_value().map(|((at, id), _)| (*at, *id)) {
                Some((at, id)) if at <= wake => {
                    self.now = self.now.max(at);
                    let seen = due.remove(&(at, id)).unwrap();
                    sender.seen(seen, now(self));
                }
                _ if sender.is_over() => break,
                _ => self.now = wake,
            }
            assert!(self.now <= began + 95_000, "it does not end");
        }
        posts
    }

    fn carry_out(
        &mut self,
        todo: Do,
        respond: Respond,
        posts: &mut Vec<(usize, u64)>,
    ) -> (Seen, u64) {
        let order = todo.order();
        if self.fails == Some(order) && self.now < self.fails_until {
            return (Seen::Failed(order), 5);
        }
        let seen = match todo {
            Do::Apply(input) => {
                if let Input::Step { step, .. } = &input {
                    self.wrote.push(format!("{step:?}"));
                    if matches!(step, StepInput::Checkpoint(_)) {
                        self.store_late();
                    }
                }
                Seen::Applied(Some(Box::new(self.apply(&input))))
            }
            Do::List => {
                let items = self.waiting.iter().take(self.limits.listed());
                let items = items.map(|(key, waiting)| StoredWaiting {
                    key: *key,
                    waiting: waiting.clone(),
                });
                self.listed = self.listed.max(items.len());
                Seen::Waiting(items.collect())
            }
            Do::Read { from, until, limit } => {
                let all = self
                    .log
                    .iter()
                    .filter(|it| **it >= from.segment && **it < until);
                let events: Vec<EventRef> = all
                    .take(limit)
                    .map(|segment| EventRef {
                        segment: *segment,
                        index: 0,
                        shard: 0,
                    })
                    .collect();
                let next = match events.last() {
                    Some(last) if events.len() == limit => Position::behind(last.segment),
                    _ => Position::at(until),
                };
                Seen::Read { events, next }
            }
            Do::Post { id, event, .. } => {
                let number = self.number(event);
                posts.push((number, self.now));
                self.begun.push(id);
                let (posted, took) = respond(number, self.now);
                let jitter = 0.0;
                let is_failing = false;
                let seen = Seen::Posted {
                    id,
                    posted,
                    took,
                    is_failing,
                    jitter,
                };
                return (seen, took);
            }
            Do::Reject { id, event, .. } => {
                self.rejected.push(self.number(event));
                Seen::Rejected { id }
            }
            Do::Look => panic!("a step does not look"),
            Do::Put(items) => {
                for item in items {
                    self.waiting.insert(item.key, item.waiting);
                }
                Seen::Put
            }
            Do::Drop(keys) => {
                for key in keys {
                    self.waiting.remove(&key);
                }
                Seen::Dropped
            }
        };
        (seen, 5)
    }

    fn stream(&self) -> &Stream {
        self.integration.stream().unwrap()
    }
}

#[test]
fn a_backlog_is_sent_once_and_in_few_writes_and_then_the_stream_goes_live() {
    let mut world = World::owing(2_000);
    let posts = world.step(&|_, _| (delivered(), 20));
    let mut numbers: Vec<usize> = posts.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..2_000).collect::<Vec<_>>());
    assert!(world.waiting.is_empty());
    assert!(world.wrote.len() < 12, "{}", world.wrote.len());
    assert_eq!(world.stream().served(), None, "caught up");
}

#[test]
fn an_event_that_fails_waits_in_an_item_and_is_sent_again_when_it_is_due() {
    let mut world = World::owing(10);
    let posts = world.step(&|number, _| {
        (
            if number == 3 {
                failed(false)
            } else {
                delivered()
            },
            20,
        )
    });
    let attempts = posts.iter().filter(|(number, _)| *number == 3).count();
    assert!(posts.len() == 9 + attempts && attempts >= 1);
    let waiting: Vec<&Waiting> = world.waiting.values().collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (waiting[0].segment, waiting[0].attempt),
        (world.log[3], attempts as u32 + 1)
    );
    assert_eq!(world.stream().waiting, 1);
    let due_at = waiting[0].due_at;
    world.now += due_at.since(world.wall()).as_millis() as u64;
    let posts = world.step(&|_, _| (delivered(), 20));
    assert_eq!(posts.len(), 1);
    assert!(world.waiting.is_empty() && world.stream().waiting == 0);
}

#[test]
fn one_event_that_does_not_end_holds_up_neither_the_others_nor_the_position() {
    let mut world = World::owing(300);
    let slow = |number, _| (delivered(), if number == 0 { 14_000 } else { 20 });
    let posts = world.step(&slow);
    assert_eq!(posts.len(), 300);
    let last = posts.iter().map(|(_, at)| *at).max().unwrap();
    assert!(last < posts[0].1 + 10_000);
    let stored = world
        .wrote
        .iter()
        .filter(|it| it.starts_with("Checkpoint"))
        .count();
    assert!((2..=5).contains(&stored), "{stored}");
    assert!(
        world.waiting.is_empty(),
        "the item that it was stored in is gone"
    );
}

#[test]
fn events_that_fail_for_ever_take_a_quarter_of_the_time_at_the_most() {
    let mut world = World::owing(4_000);
    let hangs = |number| number < 30;
    // Found by an earlier step, and due.
    for number in 0..30 {
        let key = WaitingKey {
            segment: world.log[number],
            token: Ulid(number as u128 + 1),
        };
        let waiting = Waiting {
            segment: world.log[number],
            shard: 0,
            indices: vec![0],
            attempt: 5,
            failing_since: Some(at(1)),
            due_at: at(2),
            reason: None,
        };
        world.waiting.insert(key, waiting);
    }
    if let Some(stream) = world.integration.stream_mut() {
        stream.owed[0].from = Position::behind(world.log[29]);
    }
    if let crate::integration::Target::Webhook { callback, .. } = &mut world.integration.target {
        callback.max_in_flight = Some(1);
    }
    let respond = |number, _| match hangs(number) {
        true => (failed(false), 4_000),
        false => (delivered(), 100),
    };
    let posts = world.step(&respond);
    let tired = posts.iter().filter(|(number, _)| hangs(*number)).count();
    assert!(
        (1..=5).contains(&tired),
        "{tired} attempts of 4 seconds each in 70"
    );
    assert!(posts.len() > 450, "{}", posts.len());
}

#[test]
fn a_stream_that_was_refused_goes_live_again_when_its_hold_is_over() {
    let mut world = World::owing(5);
    world.step(&|_, _| (delivered(), 20));
    assert_eq!(world.stream().served(), None);
    let refused = Input::Ran(Ran {
        is_refused: true,
        ..Ran::default()
    });
    world.apply(&refused);
    let began = world.now;
    let mut live_after = None;
    while live_after.is_none() && world.now < began + 300_000 {
        world.now += 15_000;
        world.step(&|_, _| (delivered(), 20));
        live_after = world
            .stream()
            .served()
            .is_none()
            .then_some(world.now - began);
    }
    let live_after = live_after.unwrap();
    assert!((60_000..=90_000).contains(&live_after), "{live_after}");
}

#[test]
fn nothing_is_begun_in_the_last_twenty_seconds_and_the_next_step_continues_at_once() {
    let mut world = World::owing(2_000);
    if let crate::integration::Target::Webhook { callback, .. } = &mut world.integration.target {
        callback.max_in_flight = Some(10);
    }
    let began = world.now;
    let posts = world.step(&|_, _| (delivered(), 1_000));
    let last = posts.iter().map(|(_, at)| *at - began).max().unwrap();
    assert!((60_000..=70_000).contains(&last), "{last}");
    assert!(world.now - began < 80_000);
    let wake_at = world.stream().schedule.wake_at.unwrap();
    assert!(wake_at <= world.wall(), "there is more to send");
    let again = world.step(&|_, _| (delivered(), 20));
    assert!(
        again
            .iter()
            .all(|(number, _)| posts.iter().all(|(sent, _)| sent != number))
    );
}

#[test]
fn a_receiver_that_is_down_gets_probes_and_resumes_with_the_first_that_is_taken() {
    let mut world = World::owing(200);
    let began = world.now;
    let down_until = began + 30_000;
    let respond = |_, now| match now < down_until {
        true => (failed(true), 10),
        false => (delivered(), 20),
    };
    let mut posts = Vec::new();
    while world.now < began + 120_000 {
        posts.extend(world.step(&respond));
        let next = world.stream().schedule.wake_at;
        let Some(next) = next else { break };
        world.now += next.since(world.wall()).as_millis() as u64;
    }
    let while_down = posts.iter().filter(|(_, at)| *at < down_until).count();
    assert!((5..25).contains(&while_down), "{while_down}");
    let mut taken: Vec<usize> = posts
        .iter()
        .filter(|(_, at)| *at >= down_until)
        .map(|(number, _)| *number)
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..200).collect::<Vec<_>>(), "each once");
    let first = posts
        .iter()
        .map(|(_, at)| *at)
        .find(|at| *at >= down_until)
        .unwrap();
    let second = posts
        .iter()
        .filter(|(_, at)| (first..first + 1_000).contains(at))
        .count();
    assert!(second <= 11, "{second} in the first second");
    assert!(!world.stream().is_interrupted());
}

#[test]
fn requests_that_were_under_way_when_a_stream_was_interrupted_do_not_lengthen_the_pauses_between_probes()
 {
    let mut world = World::owing(2_000);
    let began = world.now;
    let respond = |_, now| match now - began {
        0..5_000 => (delivered(), 500),
        // Many are under way when the first ones fail.
        5_000..40_000 => (failed(false), 15_000),
        _ => (delivered(), 20),
    };
    let mut posts = Vec::new();
    while world.now < began + 240_000 {
        posts.extend(world.step(&respond));
        let next = world.stream().schedule.wake_at;
        let Some(next) = next else { break };
        world.now += next.since(world.wall()).as_millis() as u64;
    }
    let at_once = posts
        .iter()
        .filter(|(_, at)| (5_000..20_000).contains(&(at - began)));
    assert!(at_once.count() >= 20);
    let back = posts
        .iter()
        .map(|(_, at)| at - began)
        .find(|at| *at >= 40_000);
    assert!(back.is_some_and(|back| back < 70_000), "{back:?}");
}

#[test]
fn a_step_that_ends_in_the_middle_of_an_item_leaves_nothing_of_it_that_was_sent() {
    let mut world = World::owing(100);
    if let Some(stream) = world.integration.stream_mut() {
        stream.owed[0].from = Position::behind(world.log[99]);
    }
    if let crate::integration::Target::Webhook { callback, .. } = &mut world.integration.target {
        callback.max_in_flight = Some(1);
    }
    // Two items of fifty events, as delivery stores what is left of runs; here each event is a segment of its own.
    let segment = world.log[0];
    let key = WaitingKey {
        segment,
        token: Ulid(1),
    };
    let waiting = Waiting {
        segment,
        shard: 0,
        indices: (0..50).collect(),
        attempt: 1,
        failing_since: None,
        due_at: at(1),
        reason: None,
    };
    world.waiting.insert(key, waiting);
    let sent = world.step(&|_, _| (delivered(), 3_000)).len();
    assert!((15..50).contains(&sent), "{sent}");
    let left: usize = world.waiting.values().map(|it| it.indices.len()).sum();
    assert_eq!(left, 50 - sent);
    let rest = world.step(&|_, _| (delivered(), 20)).len();
    assert_eq!(sent + rest, 50, "each once");
}
