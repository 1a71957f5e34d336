//! Mail: what lies in a consumer's channel. Eight bytes: a fragment by number, a change in it, as
//! what, and whether it completes the transaction. No pointer, so that nothing is counted a
//! delivery and mail that waits holds no memory of its fragment.

use crate::words::Form;

/// One delivery, packed: from the high end 40 bits of fragment number, 21 of change index, 2 of
/// form, 1 of commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mail(u64);

impl Mail {
    const CHANGE_BITS: u32 = 21;
    const CHANGE_SHIFT: u32 = 3;
    const FRAGMENT_SHIFT: u32 = Self::CHANGE_SHIFT + Self::CHANGE_BITS;
    /// Fragment numbers are compared in this many low bits. A wrong match needs mail that waits
    /// while exactly 2^40 fragments pass.
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

    /// The fragment's number, in the bits of [`Mail::FRAGMENT_MASK`].
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
        let mark = Mail::commit_mark(9);
        assert_eq!((mark.fragment(), mark.what(), mark.commits()), (9, None, true));
    }
}
