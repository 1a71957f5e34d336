//! Mail: what lies in a consumer's channel. Eight bytes: a fragment by number, a change in it, as
//! what, whether it completes the transaction, and for how many fragments in a row the same holds.
//! No pointer, so that nothing is counted a delivery and mail that waits holds no memory of its
//! fragments.

use crate::words::Form;
use crossbeam_channel::Sender;

/// Deliveries, packed: from the high end 36 bits of fragment number, 4 of how many fragments after
/// it bring the same, 21 of change index, 2 of form, 1 of commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mail(u64);

impl Mail {
    const CHANGE_BITS: u32 = 21;
    const CHANGE_SHIFT: u32 = 3;
    const MORE_BITS: u32 = 4;
    const MORE_SHIFT: u32 = Self::CHANGE_SHIFT + Self::CHANGE_BITS;
    const FRAGMENT_SHIFT: u32 = Self::MORE_SHIFT + Self::MORE_BITS;
    /// The most fragments that one mail can stand for.
    pub(crate) const FRAGMENTS_MAX: usize = 1 << Self::MORE_BITS;
    /// Fragment numbers are compared in this many low bits. A wrong match needs mail that waits
    /// while exactly 2^36 fragments pass.
    pub(crate) const FRAGMENT_MASK: u64 = (1 << (64 - Self::FRAGMENT_SHIFT)) - 1;
    const NO_CHANGE: u32 = (1 << Self::CHANGE_BITS) - 1;
    /// The most changes that a published fragment may hold.
    pub(crate) const CHANGES_MAX: usize = Self::NO_CHANGE as usize;

    /// The change at `index` of fragment number `fragment`; `index` is below [`Mail::CHANGES_MAX`].
    pub(crate) fn change(fragment: u64, index: u32, form: Form, commits: bool) -> Mail {
        debug_assert!(index < Self::NO_CHANGE);
        Mail(
            fragment << Self::FRAGMENT_SHIFT
                | u64::from(index) << Self::CHANGE_SHIFT
                | (form as u64) << 1
                | u64::from(commits),
        )
    }

    /// The commit mark in fragment number `fragment`, without a change.
    pub(crate) fn commit_mark(fragment: u64) -> Mail {
        Mail(
            fragment << Self::FRAGMENT_SHIFT | u64::from(Self::NO_CHANGE) << Self::CHANGE_SHIFT | 1,
        )
    }

    /// The same in the `count` fragments from its own on; `count` is from 1 to
    /// [`Mail::FRAGMENTS_MAX`].
    pub(crate) fn repeated(self, count: usize) -> Mail {
        debug_assert!((1..=Self::FRAGMENTS_MAX).contains(&count));
        Mail(self.0 | (count as u64 - 1) << Self::MORE_SHIFT)
    }

    /// What it stands for, one by one.
    #[inline]
    pub(crate) fn each(self) -> impl Iterator<Item = Mail> {
        let more = self.0 >> Self::MORE_SHIFT & (Self::FRAGMENTS_MAX as u64 - 1);
        let first = Mail(self.0 & !((Self::FRAGMENTS_MAX as u64 - 1) << Self::MORE_SHIFT));
        (0..=more).map(move |number| first.after(number))
    }

    /// The same in the fragment that is `number` later.
    pub(crate) fn after(self, number: u64) -> Mail {
        Mail(self.0.wrapping_add(number << Self::FRAGMENT_SHIFT))
    }

    /// The first fragment's number, in the bits of [`Mail::FRAGMENT_MASK`].
    pub(crate) fn fragment(self) -> u64 {
        self.0 >> Self::FRAGMENT_SHIFT
    }

    pub(crate) fn what(self) -> Option<(u32, Form)> {
        let index = (self.0 >> Self::CHANGE_SHIFT) as u32 & Self::NO_CHANGE;
        let form = match self.0 >> 1 & 3 {
            0 => Form::AsIs,
            1 => Form::Insert,
            _ => Form::Delete,
        };
        (index != Self::NO_CHANGE).then_some((index, form))
    }

    pub(crate) fn commits(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Reads what a send and a run look at in a channel. See `Moved`.
pub(crate) fn fetch_channel(channel: &Sender<Mail>) -> usize {
    channel.len() + channel.capacity().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out() {
        let fragment = Mail::FRAGMENT_MASK + 5; // wraps to 4
        for index in [0, 7, Mail::NO_CHANGE - 1] {
            for form in [Form::AsIs, Form::Insert, Form::Delete] {
                for commits in [false, true] {
                    let mail = Mail::change(fragment, index, form, commits);
                    assert_eq!(mail.fragment(), 4);
                    assert_eq!(mail.what(), Some((index, form)));
                    assert_eq!(mail.commits(), commits);
                }
            }
        }
        let last = Mail::change(Mail::FRAGMENT_MASK, 3, Form::Delete, true);
        let three: Vec<_> = last.repeated(3).each().collect();
        assert_eq!(three, [last, last.after(1), last.after(2)]);
        assert_eq!((three[2].fragment(), three[2].what()), (1, Some((3, Form::Delete))));
        assert_eq!(last.repeated(Mail::FRAGMENTS_MAX).each().count(), Mail::FRAGMENTS_MAX);
        assert_eq!(last.each().count(), 1);
        let mark = Mail::commit_mark(9);
        assert_eq!((mark.fragment(), mark.what(), mark.commits()), (9, None, true));
    }
}
