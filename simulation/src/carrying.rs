//! What a sender wants that is neither a write nor an attempt.

use domain::fate::Refused;
use domain::log::position::{EventRef, Position};
use domain::replay::selection::Selection;
use domain::replay::sender::{Do, Seen};
use domain::stream::waiting::StoredWaiting;
use domain::time::Millis;

use crate::history::name;
use crate::mutant::Mutant;
use crate::receiver::REFUSAL;
use crate::requests::of;
use crate::work::{Process, Role};
use crate::world::World;

impl World {
    /// Does what a sender wants that is neither a write nor an attempt.
    pub fn carry_out(&mut self, process: &mut Process, todo: Do, local: Millis) {
        let (who, generation) = of(process);
        match todo {
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
                self.seen(process, Seen::Waiting(items), local);
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
                self.seen(process, Seen::Read { events, next }, local);
            }
            Do::Reject {
                id, event, answer, ..
            } => {
                let is_given_up = answer != REFUSAL;
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
                self.seen(process, Seen::Rejected { id }, local);
            }
            Do::Apply(_) | Do::Post { .. } | Do::Put(_) | Do::Drop(_) => {}
        }
    }
}
