//! What a worker that sends events orders: first the effect, then the answer. Either may fail.

use std::sync::Arc;

use domain::fate::Refused;
use domain::log::position::{EventRef, Position};
use domain::replay::selection::Selection;
use domain::replay::sender::FULL;
use domain::sending::{Do, Order, Seen};
use domain::stream::waiting::StoredWaiting;
use domain::time::Millis;

use crate::history::name;
use crate::mutant::Mutant;
use crate::receiver::REFUSAL;
use crate::requests::of;
use crate::run::LIMITS;
use crate::work::{Happening, Op, Process, Role};
use crate::world::World;

impl World {
    /// Begins an order.
    pub fn begin_order(&mut self, process: &mut Process, id: u64, order: Do) {
        let latency = self.latency();
        let (took, op) = match order {
            Do::Apply(input) => {
                let input = self.bent_input(process, input);
                (latency, Op::Apply(of(process), input))
            }
            Do::Post { id, event, .. } => (0, Op::Attempt(id, event)),
            Do::Read { from, until, .. } => (self.reading_time(from, until), Op::Carry(order)),
            order => (latency, Op::Carry(order)),
        };
        let at = self.now + took;
        self.at(at, Happening::Work(id, op));
    }

    /// Carries out an order that is neither a write of an integration nor an attempt. Its answer comes later than its effect.
    pub fn carry_out(&mut self, process: &mut Process, id: u64, todo: Do, local: Millis) {
        let order = todo.order();
        let failures = self.history.failures;
        // A run has its events at hand: that one is not kept among the rejected ones is a warning, and no failure.
        let is_kept = matches!(
            (&process.role, order),
            (Role::Deliver(..), Order::Reject(_))
        );
        if !is_kept && self.unlucky(failures) {
            return self.answer(id, Seen::Failed(order));
        }
        let Some(seen) = self.effect(process, id, todo, local) else {
            return;
        };
        // It took effect, and nobody hears of it.
        let seen = if self.unlucky(failures) {
            Seen::Failed(order)
        } else {
            seen
        };
        self.answer(id, seen);
    }

    fn answer(&mut self, id: u64, seen: Seen) {
        let at = self.now + self.latency();
        self.at(at, Happening::Work(id, Op::Answer(Box::new(seen))));
    }

    fn effect(&mut self, process: &mut Process, id: u64, todo: Do, local: Millis) -> Option<Seen> {
        let (who, generation) = of(process);
        Some(match todo {
            Do::Look => {
                let found = self.find((who, generation));
                process.fresh = found.clone().map(|it| (Box::new(it), self.now));
                Seen::Looked(found.map(|it| self.bent_look(it)).map(Arc::new))
            }
            Do::Put(items) => {
                let is_sender = matches!(process.role, Role::Replay(..));
                match (self.mutant, is_sender) {
                    (Some(Mutant::PositionFirst), true) | (Some(Mutant::AskedFirst), false) => {
                        let late = Op::LatePut(generation, items, false);
                        self.at(self.now + 3_000, Happening::Work(id, late));
                    }
                    (Some(Mutant::DroppedFirst), true) => {
                        self.forget((who, generation), &items);
                        let late = Op::LatePut(generation, items, true);
                        self.at(self.now + 3_000, Happening::Work(id, late));
                        return None;
                    }
                    _ => self.put(generation, items),
                }
                Seen::Put
            }
            Do::Drop(keys) => {
                for key in keys {
                    self.waiting.remove(&(generation, key));
                }
                Seen::Dropped
            }
            Do::List => {
                let ours = self.waiting.iter().filter(|((of, _), _)| *of == generation);
                let mut items: Vec<StoredWaiting> = ours
                    .map(|((_, key), waiting)| StoredWaiting {
                        key: *key,
                        waiting: waiting.clone(),
                    })
                    .collect();
                if self.mutant == Some(Mutant::NudgeUnlisted)
                    && let Role::Replay(_, sender) = &process.role
                    && sender.is_working()
                {
                    items.clear();
                }
                let mut listed = 0;
                items.retain(|item| {
                    let is_listed = listed < LIMITS.listed();
                    listed += item.waiting.indices.len();
                    is_listed
                });
                Seen::Waiting(items)
            }
            Do::Read { from, until, limit } => {
                let integration = self.integrations[who].as_ref();
                let passes = |name: &str| integration.is_some_and(|it| it.passes(name));
                let until = match self.mutant {
                    Some(Mutant::UnsealedRead) => local.first_id(),
                    _ => until,
                };
                let from = match self.mutant {
                    Some(Mutant::MidSegment) if from.index > 0 => Position::behind(from.segment),
                    _ => from,
                };
                let mut selection = Selection::new(from);
                let mut events = Vec::new();
                for (segment, ids) in self.log.range(from.segment..until.max(from.segment)) {
                    let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
                    let named = texts.iter().zip(ids);
                    let named = named.map(|(text, id)| (text.as_str(), name(*id)));
                    let taken = selection.take(*segment, named, passes, limit - events.len());
                    events.extend(taken.indices.into_iter().map(|index| EventRef {
                        segment: *segment,
                        index,
                        shard: 0,
                    }));
                    if events.len() >= limit {
                        break;
                    }
                }
                if events.len() < limit {
                    selection.end(until);
                }
                let next = selection.next();
                Seen::Read { events, next }
            }
            Do::Reject {
                id, event, answer, ..
            } => {
                let is_full = answer == FULL;
                let is_given_up = answer != REFUSAL && !is_full;
                let note = Refused {
                    event,
                    id: self.id_of(&event).to_string(),
                    at: local,
                    reason: answer,
                };
                if self.mutant != Some(Mutant::RejectionsUnnoted) {
                    self.refused.push((generation, note));
                }
                let event = self.id_of(&event);
                self.ledger.reject(generation, event, is_given_up, self.now);
                if is_full {
                    self.ledger.full(generation, LIMITS.waiting);
                }
                Seen::Rejected { id }
            }
            Do::Apply(_) | Do::Post { .. } => return None,
        })
    }
}
