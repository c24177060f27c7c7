mod evidence;

use ulid::Ulid;

use super::*;
use crate::lifecycle::RanFailed;
use crate::stream::waiting::Waiting;
use crate::tasks::RunEvent;
use crate::time::Millis;

const SEAL: Duration = Duration::from_secs(10);

fn run(count: u32) -> Run {
    let event = |index| RunEvent {
        index,
        id: index.to_string(),
        name: "order.created".to_owned(),
        body: serde_json::value::RawValue::from_string("{}".to_owned()).unwrap(),
    };
    Run {
        tenant: "acme".into(),
        integration_id: "erp-1".into(),
        generation: Ulid(1),
        segment: Millis(2_000).first_id(),
        shard: 0,
        events: (0..count).map(event).collect(),
    }
}

fn live() -> Integration {
    let mut integration = crate::integration::tests::webhook(Millis(1_000));
    let stream = integration.stream_mut().unwrap();
    stream.resume(Millis(1_000), SEAL);
    stream.confirm();
    stream.health.succeed(Millis(100_000));
    integration
}

fn refused(retry_after: Option<u64>) -> Outcome {
    failure(true, retry_after)
}

fn failed() -> Outcome {
    failure(false, None)
}

fn failure(is_refusal: bool, retry_after: Option<u64>) -> Outcome {
    Outcome::Failed(Failure {
        reason: "no".to_owned(),
        retry_after: retry_after.map(Duration::from_millis),
        is_refusal,
    })
}

/// A run under way, by a clock of milliseconds that begins with it.
struct Trial {
    posting: Posting,
    now: u64,
    /// What else it wanted, and has been answered with success.
    orders: Vec<Do>,
}

impl Trial {
    fn of(count: u32, over: u64) -> Trial {
        Trial::at(count, over, live())
    }

    fn at(count: u32, over: u64, integration: Integration) -> Trial {
        let posting = Posting::new(&run(count), over);
        let mut trial = Trial {
            posting,
            now: 0,
            orders: Vec::new(),
        };
        assert_eq!(trial.next(), Some(Do::Look));
        trial.see(Seen::Looked(Some(Arc::new(integration))));
        trial
    }

    fn time(&self) -> Now {
        Now {
            wall: Millis(100_000 + self.now),
            tick: self.now,
        }
    }

    fn next(&mut self) -> Option<Do> {
        self.posting.next(self.time(), Ulid(77))
    }

    fn see(&mut self, seen: Seen) {
        self.posting.seen(seen, self.time());
    }

    /// Begins all that may begin now, and answers everything else at once; the numbers of the events that are posted.
    fn posts(&mut self) -> Vec<usize> {
        let mut posts = Vec::new();
        while let Some(order) = self.next() {
            let at = self.now;
            let seen = match &order {
                Do::Post { id, .. } => {
                    posts.push(*id as usize);
                    self.see(Seen::Begun { id: *id, at });
                    continue;
                }
                Do::Apply(_) => Seen::Applied(None),
                Do::Put(_) => Seen::Put,
                Do::Reject { id, .. } => Seen::Rejected { id: *id },
                other => panic!("{other:?}"),
            };
            self.orders.push(order);
            self.see(seen);
        }
        posts
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        self.posted(number, Posted::Made(outcome, "Request".to_owned()));
    }

    fn posted(&mut self, number: usize, posted: Posted) {
        let (id, is_failing, jitter) = (number as u64, false, 0.0);
        self.see(Seen::Posted {
            id,
            posted,
            took: 0,
            is_failing,
            jitter,
        });
    }

    /// Waits until it wants to be asked again, or for as long.
    fn wait(&mut self, longest: u64) {
        let wake = self.posting.wake(self.time());
        self.now = wake.min(self.now + longest);
    }

    fn said(&self) -> Vec<&Ran> {
        let ran = |order| match order {
            &Do::Apply(Input::Ran(ref ran)) => Some(ran),
            _ => None,
        };
        self.orders.iter().filter_map(ran).collect()
    }

    fn items(&self) -> Vec<Waiting> {
        let put = |order: &Do| match order {
            Do::Put(items) => items.iter().map(|it| it.waiting.clone()).collect(),
            _ => Vec::new(),
        };
        self.orders.iter().flat_map(put).collect()
    }
}

#[test]
fn more_at_a_time_are_posted_when_as_many_were_taken_and_ten_at_most() {
    let mut trial = Trial::of(50, 30_000);
    let (mut widths, mut left) = (Vec::new(), 50);
    while left > 0 {
        let begun = trial.posts();
        widths.push(begun.len());
        left -= begun.len();
        for number in begun {
            trial.end(number, Outcome::Delivered);
        }
    }
    assert_eq!(widths, [1, 2, 4, 8, 10, 10, 10, 5]);
    assert!(trial.posts().is_empty());
    assert!(trial.posting.is_over() && !trial.posting.is_handed_back());
    assert_eq!(trial.orders, [], "a healthy one writes nothing");
}

#[test]
fn one_that_does_not_respond_holds_up_no_other_and_is_slow_two_seconds_after_its_request_began() {
    let mut trial = Trial::of(3, 30_000);
    assert_eq!(trial.posts(), [0]);
    trial.now = 10;
    trial.end(0, Outcome::Delivered);
    // What comes before its request is our own time.
    for number in [1, 2] {
        let order = trial.next();
        assert!(matches!(order, Some(Do::Post { id, .. }) if id == number));
    }
    trial.now = 5_000;
    assert!(trial.posts().is_empty());
    assert_eq!(trial.said(), [] as [&Ran; 0]);
    trial.see(Seen::Begun { id: 1, at: 5_000 });
    trial.see(Seen::Begun { id: 2, at: 4_900 });
    trial.end(2, Outcome::Delivered);
    trial.now = 6_999;
    assert_eq!((trial.posts(), trial.said().len()), (vec![], 0));
    assert_eq!(trial.posting.wake(trial.time()), 7_000);
    trial.now = 7_000;
    assert_eq!((trial.posts(), trial.said().len()), (vec![], 1));
    assert!(trial.said()[0].is_slow);
    trial.now = 9_000;
    assert!(trial.posts().is_empty());
    trial.end(1, Outcome::Delivered);
    trial.posts();
    assert_eq!(trial.said().len(), 1, "it is said once");
}

#[test]
fn a_run_stops_when_the_receiver_asks_for_a_pause_and_what_is_left_waits() {
    let mut trial = Trial::of(5, 30_000);
    trial.posts();
    trial.end(0, Outcome::Delivered);
    assert_eq!(trial.posts(), [1, 2]);
    trial.end(1, refused(Some(7_000)));
    assert!(trial.posts().is_empty(), "the other one is under way");
    assert!(!trial.posting.is_over());
    trial.end(2, Outcome::Rejected("no".to_owned()));
    assert!(trial.posts().is_empty());
    assert!(trial.posting.is_over());
    let kinds: Vec<Order> = trial.orders.iter().map(Do::order).collect();
    assert_eq!(kinds, [Order::Reject(2), Order::Put, Order::Apply]);
    let waits = |indices: &[u32], attempt, failing_since, due_at, reason: Option<&str>| Waiting {
        segment: Millis(2_000).first_id(),
        shard: 0,
        indices: indices.to_vec(),
        attempt,
        failing_since,
        due_at: Millis(due_at),
        reason: reason.map(str::to_owned),
    };
    let expected = [
        waits(&[1], 2, Some(Millis(100_000)), 107_000, Some("no")),
        waits(&[3, 4], 1, None, 100_000, None),
    ];
    assert_eq!(trial.items(), expected);
    let ran = trial.said()[0];
    assert!(ran.is_refused && ran.is_taken);
    assert_eq!(ran.hold, Some(Duration::from_secs(7)));
    assert_eq!(ran.due_at, Some(Millis(100_000)));
}

#[test]
fn a_run_stops_when_a_whole_width_of_two_at_least_has_failed() {
    let mut trial = Trial::of(5, 30_000);
    for number in [0, 1] {
        assert_eq!(trial.posts(), [number]);
        trial.end(number, failed());
    }
    assert!(trial.posts().is_empty());
    let indices: Vec<_> = trial.items().iter().map(|it| it.indices.clone()).collect();
    assert_eq!(indices, [vec![0, 1], vec![2, 3, 4]]);
    let ran = trial.said()[0];
    let RanFailed { events, .. } = ran.failed.as_ref().unwrap();
    assert_eq!((events.len(), ran.is_refused), (2, false));
}

#[test]
fn one_bad_event_does_not_stop_a_run() {
    let mut trial = Trial::of(4, 30_000);
    let mut posted = 0;
    while posted < 4 {
        for number in trial.posts() {
            posted += 1;
            let outcome = if number == 1 {
                failed()
            } else {
                Outcome::Delivered
            };
            trial.end(number, outcome);
        }
    }
    trial.posts();
    assert_eq!(trial.items().len(), 1);
    assert_eq!(trial.items()[0].indices, [1]);
}

#[test]
fn a_run_ends_after_five_seconds_and_its_receiver_is_slow() {
    let mut trial = Trial::of(50, 60_000);
    let mut posted = 0;
    loop {
        let begun = trial.posts();
        if begun.is_empty() {
            break;
        }
        posted += begun.len();
        trial.now += 900;
        for number in begun {
            trial.end(number, Outcome::Delivered);
        }
    }
    assert_eq!(posted, 1 + 2 + 4 + 8 + 10 + 10);
    assert!(trial.said()[0].is_slow);
    // One that had no time from the start says nothing about the receiver.
    let mut late = Trial::of(3, 15_000);
    assert!(late.posts().is_empty());
    assert!(!late.said()[0].is_slow);
    let due_at = late.said()[0].due_at;
    assert_eq!(
        (late.items()[0].indices.len(), due_at),
        (3, Some(Millis(100_000)))
    );
}

#[test]
fn the_events_of_a_stream_that_is_served_wait_and_a_sender_is_asked_for_them() {
    let served = crate::integration::tests::webhook(Millis(1_000));
    let mut trial = Trial::at(3, 30_000, served);
    assert!(trial.posts().is_empty());
    assert_eq!(trial.items()[0].indices, [0, 1, 2]);
    let expected = Ran {
        due_at: Some(Millis(100_000)),
        ..Ran::default()
    };
    assert_eq!(trial.said(), [&expected]);
    let mut finished = live();
    finished.is_finished = true;
    let mut trial = Trial::at(3, 30_000, finished);
    assert_eq!((trial.posts(), trial.orders.len()), (vec![], 0));
    assert!(trial.posting.is_over());
}

#[test]
fn a_success_clears_at_once_what_others_have_counted() {
    let mut failing = live();
    let stream = failing.stream_mut().unwrap();
    stream.health.fail(Millis(99_000), "e", Millis(99_000));
    let mut trial = Trial::at(2, 30_000, failing);
    assert_eq!(trial.posts(), [0]);
    trial.end(0, Outcome::Delivered);
    assert_eq!(trial.posts(), [1]);
    assert!(trial.said()[0].is_taken && trial.said()[0].due_at.is_none());
    trial.end(1, Outcome::Delivered);
    trial.posts();
    assert_eq!(trial.said().len(), 1, "it is said once");
}

#[test]
fn what_cannot_be_written_is_tried_again_and_only_what_has_to_be_known_hands_a_run_back() {
    let at_writing = || {
        let mut trial = Trial::of(1, 30_000);
        trial.posts();
        trial.end(0, failed());
        assert_eq!(trial.next().unwrap().order(), Order::Put);
        trial
    };
    let mut trial = at_writing();
    for _ in 0..3 {
        trial.see(Seen::Failed(Order::Put));
        assert_eq!(trial.next(), None);
        trial.wait(1_000);
        trial.wait(1_000);
        assert_eq!(trial.next().unwrap().order(), Order::Put);
    }
    trial.see(Seen::Put);
    trial.posts();
    assert!(trial.posting.is_over() && !trial.posting.is_handed_back());
    let mut trial = at_writing();
    for _ in 0..4 {
        trial.see(Seen::Failed(Order::Put));
        trial.wait(1_000);
        trial.wait(1_000);
        trial.next();
    }
    assert!(trial.posting.is_over() && trial.posting.is_handed_back());
    // That a rejected event is not kept is no reason to post the others again.
    let mut trial = Trial::of(1, 30_000);
    trial.posts();
    trial.end(0, Outcome::Rejected("no".to_owned()));
    assert_eq!(trial.next().unwrap().order(), Order::Reject(0));
    trial.see(Seen::Failed(Order::Reject(0)));
    trial.posts();
    assert!(trial.posting.is_over() && !trial.posting.is_handed_back());
}

#[test]
fn where_there_is_no_socket_the_run_stops_and_its_events_wait_as_though_they_had_not_been_tried() {
    let mut trial = Trial::of(5, 30_000);
    assert_eq!(trial.posts(), [0]);
    trial.end(0, Outcome::Delivered);
    assert_eq!(trial.posts(), [1, 2]);
    trial.now = 500;
    trial.posted(2, Posted::Unmade);
    assert!(trial.posts().is_empty());
    trial.end(1, Outcome::Delivered);
    assert!(trial.posts().is_empty() && trial.posting.is_over());
    assert!(!trial.posting.is_handed_back());
    let items = trial.items();
    assert_eq!(items.len(), 1);
    assert_eq!(
        (&items[0].indices[..], items[0].attempt),
        (&[2, 3, 4][..], 1)
    );
    assert_eq!((items[0].failing_since, &items[0].reason), (None, &None));
    let [ran] = trial.said()[..] else {
        panic!("{:?}", trial.said());
    };
    assert!(ran.failed.is_none() && !ran.is_refused && !ran.is_slow);
    assert_eq!(ran.due_at, Some(Millis(100_500)), "a sender is asked for");
}
