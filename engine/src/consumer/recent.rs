//! Recent: the last fragments of a shard, by number, where runners look up what mail refers to.
//!
//! The shard puts each fragment in once; nobody counts deliveries. What was overwritten, or was
//! pushed out by the byte bound, is no longer here: the runner that wanted it goes to the log,
//! which has it (R4). So mail that waits, however long, pins no memory.

use super::mail::Mail;
use crate::words::Fragment;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

#[derive(Debug)]
struct Numbered {
    number: u64,
    fragment: Arc<Fragment>,
}

/// A ring of the last fragments. One writer, the shard; many readers, the runners.
#[derive(Debug)]
pub(crate) struct Recent {
    places: Box<[ArcSwapOption<Numbered>]>,
}

impl Recent {
    /// A ring of `places` fragments, rounded up to a power of two.
    pub(crate) fn new(places: usize) -> Recent {
        let places = places.next_power_of_two();
        Recent { places: (0..places).map(|_| ArcSwapOption::empty()).collect() }
    }

    /// The number of fragments that fit.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    fn place(&self, number: u64) -> &ArcSwapOption<Numbered> {
        &self.places[number as usize & (self.places.len() - 1)]
    }

    /// Puts in the fragment numbered `number`, over the oldest.
    pub(crate) fn put(&self, number: u64, fragment: &Arc<Fragment>) {
        let number = number & Mail::FRAGMENT_MASK;
        let numbered = Numbered { number, fragment: Arc::clone(fragment) };
        self.place(number).store(Some(Arc::new(numbered)));
    }

    /// Lets go of the fragment numbered `number`, if it is still there.
    pub(crate) fn forget(&self, number: u64) {
        self.place(number).store(None);
    }

    fn get(&self, number: u64) -> Option<Arc<Numbered>> {
        self.place(number).load_full().filter(|found| found.number == number)
    }
}

/// Fragments that a runner keeps at hand, by the low bits of their number.
const KEPT: usize = 8;

/// The fragments that a runner looked up last: a fan-out asks for the same few for each shape, and
/// each look-up would count references that all runners share. It keeps away from what other
/// threads write: it is taken and laid back at each run.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct FragmentCache {
    kept: [Option<Arc<Numbered>>; KEPT],
}

impl FragmentCache {
    /// The fragment that `mail` refers to, or `None` when it is no longer recent.
    #[inline]
    pub(crate) fn fragment(&mut self, recent: &Recent, mail: Mail) -> Option<&Fragment> {
        let number = mail.fragment();
        let kept = &mut self.kept[number as usize % KEPT];
        if kept.as_ref().is_none_or(|kept| kept.number != number) {
            *kept = recent.get(number);
        }
        kept.as_ref().map(|found| &*found.fragment)
    }

    /// Lets go of the fragments, before a rest.
    pub(crate) fn clear(&mut self) {
        self.kept = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Form, Lsn, TransactionBuilder};

    fn fragment(lsn: u64) -> Arc<Fragment> {
        Arc::new(TransactionBuilder::new(1, Lsn::new(lsn)).commit(Lsn::new(lsn + 1)))
    }

    #[test]
    fn an_overwritten_fragment_is_gone_and_never_mistaken() {
        let recent = Recent::new(2);
        let mut cache = FragmentCache::default();
        for number in 0..3 {
            recent.put(number, &fragment(number + 10));
        }
        let mail = |number| Mail::change(number, 0, Form::AsIs, true);
        let mut lsn = |number| cache.fragment(&recent, mail(number)).map(Fragment::commit_lsn);
        assert_eq!(lsn(0), None);
        assert_eq!(lsn(1), Some(Lsn::new(11)));
        assert_eq!(lsn(2), Some(Lsn::new(12)));
        recent.forget(1);
        assert_eq!(lsn(1), Some(Lsn::new(11)), "who has it at hand keeps it");
        cache.clear();
        let mut lsn = |number| cache.fragment(&recent, mail(number)).map(Fragment::commit_lsn);
        assert_eq!((lsn(1), lsn(2)), (None, Some(Lsn::new(12))));
    }
}
