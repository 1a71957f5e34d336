//! Gather: what a block has for whom, from its records as they lie in the log. Frames flow in, the
//! same postings come out that the encoder would have made while it wrote them. What does not fit
//! them is known as "something, somewhere": the slots of sets, of too many postings, of too many
//! records.

use super::decode::{read_set, skim_fragment};
use super::frame::Kind;
use super::postings::{POSTINGS_MAX, Posting, Postings, RECORDS_MAX};
use super::span::FragmentHead;
use super::wire::Malformed;
use roaring::RoaringBitmap;

/// One block, as far as its frames have come.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    postings: Vec<Posting>,
    /// The sets' present states, by number, and the union of all their states.
    sets: Vec<RoaringBitmap>,
    dense: RoaringBitmap,
    relations: Vec<u32>,
    /// Whether there were too many postings: their slots are in `dense`, those to come too.
    is_folded: bool,
    /// Whether something lies beyond what a place can name.
    is_lost: bool,
}

impl Gathering {
    /// Takes the frame that starts `at` bytes into the block; the head of a fragment.
    pub(super) fn frame(
        &mut self,
        kind: Kind,
        payload: &[u8],
        at: u64,
    ) -> Result<Option<FragmentHead>, Malformed> {
        let place = u32::try_from(at);
        self.is_lost |= place.is_err();
        let place = place.unwrap_or(u32::MAX);
        match kind {
            Kind::Relation => self.relations.push(place),
            Kind::Set => self.set(payload)?,
            Kind::SetDelta => self.delta(payload)?,
            Kind::Fragment => return self.fragment(payload, place).map(Some),
            Kind::Batch | Kind::AddShape | Kind::RemoveShape | Kind::Invalidate => {}
            Kind::Thinned | Kind::Cut => {
                return Err(Malformed("a block holds a record of a log's front"));
            }
        }
        Ok(None)
    }

    fn set(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, slots) = read_set(payload)?;
        self.dense |= &slots;
        if number > self.sets.len() {
            return Err(Malformed("set numbers do not rise by 1"));
        }
        match self.sets.get_mut(number) {
            Some(known) => *known = slots,
            None => self.sets.push(slots),
        }
        Ok(())
    }

    fn delta(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, delta) = read_set(payload)?;
        let known = self.sets.get_mut(number).ok_or(Malformed("a delta's set is unknown"))?;
        // Who goes was there before: only who comes can be new.
        self.dense |= &delta;
        *known ^= delta;
        Ok(())
    }

    fn fragment(&mut self, payload: &[u8], at: u32) -> Result<FragmentHead, Malformed> {
        let Gathering { postings, dense, is_folded, .. } = self;
        let head = skim_fragment(payload, |slot| {
            let slot = slot.as_u32();
            if *is_folded {
                dense.insert(slot);
                return;
            }
            postings.push(Posting { slot, at });
            if postings.len() > POSTINGS_MAX {
                *is_folded = true;
                dense.extend(postings.drain(..).map(|posting| posting.slot));
            }
        })?;
        Ok(head)
    }

    /// What the block has; `None` where nobody can be told what is in it without decoding it.
    pub(super) fn close(self) -> Option<Postings> {
        let Gathering { mut postings, mut dense, relations, is_lost, .. } = self;
        if is_lost {
            return None;
        }
        postings.sort_unstable();
        postings.dedup();
        for own in postings.chunk_by(|one, next| one.slot == next.slot) {
            if let (true, Some(posting)) = (own.len() > RECORDS_MAX, own.first()) {
                dense.insert(posting.slot);
            }
        }
        // Who has the block decoded finds there what is its own one by one, too.
        postings.retain(|posting| !dense.contains(posting.slot));
        dense.optimize();
        Some(Postings { postings: postings.into(), sets: dense, relations: relations.into() })
    }
}
