//! One-sided ranges: constants in order, each with the slots that compare something with it. A
//! value divides them into those below and those above it. The order is a tree whose inner nodes
//! hold the union of what is below them as one shared set, so that half of 300,000 shapes are some
//! dozens of sets.

use super::slots::{SetIds, SlotSet};
use crate::predicate::Datum;
use crate::words::{Slot, Targets};
use std::cmp::Ordering;

/// The most entries of a node. A change names up to so many sets a level, and as many slots; a
/// node that is full is divided in two.
const NODE_MAX: usize = 64;

/// A constant, and whether the cut is just behind it instead of just before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cut {
    /// First in the order, since it costs so little to compare.
    rank: i64,
    value: Datum<'static>,
    behind: bool,
}

/// A value that is looked for, with its rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'d> {
    rank: i64,
    value: &'d Datum<'d>,
}

impl<'d> Sought<'d> {
    pub(super) fn new(value: &'d Datum<'d>) -> Sought<'d> {
        Sought { rank: value.rank(), value }
    }

    pub(super) fn rank(self) -> i64 {
        self.rank
    }
}

impl Cut {
    pub(super) fn new(value: Datum<'static>, behind: bool) -> Cut {
        Cut { rank: value.rank(), value, behind }
    }

    /// No value with a higher rank lies before the cut.
    pub(super) fn rank(&self) -> i64 {
        self.rank
    }

    /// Whether the value lies before the cut.
    pub(super) fn is_above(&self, sought: Sought<'_>) -> bool {
        match sought.rank.cmp(&self.rank).then_with(|| sought.value.cmp(&self.value)) {
            Ordering::Less => true,
            Ordering::Equal => self.behind,
            Ordering::Greater => false,
        }
    }
}

/// Cuts with their slots.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    root: Node,
}

/// Entries or children in order, and beside them the ranks of their cuts, which a search looks at
/// first.
#[derive(Debug, Default)]
struct Node {
    ranks: Vec<i64>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Leaf(Vec<(Cut, SlotSet)>),
    /// None empty.
    Inner(Vec<Child>),
}

#[derive(Debug)]
struct Child {
    /// Not above the first cut below; above all cuts of the child before.
    first: Cut,
    /// Everything below.
    all: SlotSet,
    node: Node,
}

impl Default for Part {
    fn default() -> Part {
        Part::Leaf(Vec::new())
    }
}

impl Cuts {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    pub(super) fn insert(&mut self, cut: &Cut, slot: Slot, ids: &mut SetIds) {
        self.root.insert(cut, slot, ids);
        if self.root.is_full() {
            let halves = self.root.halves(ids);
            let ranks = halves.iter().map(|child| child.first.rank).collect();
            self.root = Node { ranks, part: Part::Inner(halves) };
        }
    }

    /// Doing it twice is doing it once (INV5).
    pub(super) fn remove(&mut self, cut: &Cut, slot: Slot) {
        self.root.remove(cut, slot);
        if self.root.is_empty() {
            self.root = Node::default();
        }
    }

    /// Adds the slots of all cuts that `value` lies before, or those of all others.
    pub(super) fn nominate(&self, value: Sought<'_>, above: bool, targets: &mut Targets) {
        let mut node = &self.root;
        loop {
            let border = node.place(value.rank, |cut| !cut.is_above(value));
            match &node.part {
                Part::Leaf(entries) => {
                    let part = if above { &entries[border..] } else { &entries[..border] };
                    return part.iter().for_each(|(_, set)| set.nominate(targets));
                }
                Part::Inner(children) => {
                    // The child in which the border lies.
                    let border = border.saturating_sub(1);
                    let part = if above { &children[border + 1..] } else { &children[..border] };
                    part.iter().for_each(|child| child.all.nominate(targets));
                    let Some(child) = children.get(border) else { return };
                    node = &child.node;
                }
            }
        }
    }

    /// Adds every slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        let mut stack = vec![&self.root];
        while let Some(node) = stack.pop() {
            match &node.part {
                Part::Leaf(entries) => entries.iter().for_each(|(_, set)| set.nominate(targets)),
                Part::Inner(children) => stack.extend(children.iter().map(|child| &child.node)),
            }
        }
    }
}

impl Child {
    fn of(node: Node, ids: &mut SetIds) -> Option<Child> {
        let first = node.cut(0)?.clone();
        let mut all = SlotSet::default();
        match &node.part {
            Part::Leaf(entries) => entries.iter().for_each(|(_, set)| all.extend(set, ids)),
            Part::Inner(children) => children.iter().for_each(|child| all.extend(&child.all, ids)),
        }
        Some(Child { first, all, node })
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    fn is_full(&self) -> bool {
        self.ranks.len() > NODE_MAX
    }

    fn cut(&self, place: usize) -> Option<&Cut> {
        match &self.part {
            Part::Leaf(entries) => entries.get(place).map(|(cut, _)| cut),
            Part::Inner(children) => children.get(place).map(|child| &child.first),
        }
    }

    /// How many cuts come before what has this rank; of those that have it too, `before` says.
    fn place(&self, rank: i64, before: impl Fn(&Cut) -> bool) -> usize {
        let lower = self.ranks.partition_point(|known| *known < rank);
        let same = self.ranks[lower..].partition_point(|known| *known == rank);
        match &self.part {
            Part::Leaf(entries) => {
                lower + entries[lower..lower + same].partition_point(|(cut, _)| before(cut))
            }
            Part::Inner(children) => {
                lower + children[lower..lower + same].partition_point(|child| before(&child.first))
            }
        }
    }

    /// Takes all out, as two children.
    fn halves(&mut self, ids: &mut SetIds) -> Vec<Child> {
        let half = self.ranks.len() / 2;
        let ranks = self.ranks.split_off(half);
        let part = match &mut self.part {
            Part::Leaf(entries) => Part::Leaf(entries.split_off(half)),
            Part::Inner(children) => Part::Inner(children.split_off(half)),
        };
        let (left, right) = (std::mem::take(self), Node { ranks, part });
        [left, right].into_iter().filter_map(|node| Child::of(node, ids)).collect()
    }

    fn insert(&mut self, cut: &Cut, slot: Slot, ids: &mut SetIds) {
        let next = self.place(cut.rank, |known| known <= cut);
        let place = next.saturating_sub(1);
        match &mut self.part {
            Part::Leaf(entries) => match entries.get_mut(place) {
                Some((known, set)) if known == cut => set.insert(slot, ids),
                _ => {
                    self.ranks.insert(next, cut.rank);
                    entries.insert(next, (cut.clone(), SlotSet::One(slot)));
                }
            },
            Part::Inner(children) => {
                let child = &mut children[place];
                if *cut < child.first {
                    child.first = cut.clone();
                    self.ranks[place] = cut.rank;
                }
                child.all.insert(slot, ids);
                child.node.insert(cut, slot, ids);
                if child.node.is_full() {
                    let halves = child.node.halves(ids);
                    self.ranks.splice(place..=place, halves.iter().map(|child| child.first.rank));
                    children.splice(place..=place, halves);
                }
            }
        }
    }

    /// Nodes that became empty go; the others stay as they are, however few entries they have.
    fn remove(&mut self, cut: &Cut, slot: Slot) {
        let next = self.place(cut.rank, |known| known <= cut);
        let Some(place) = next.checked_sub(1) else { return };
        let empty = match &mut self.part {
            Part::Leaf(entries) => {
                let (known, set) = &mut entries[place];
                if known == cut {
                    set.remove(slot);
                }
                set.is_empty()
            }
            Part::Inner(children) => {
                let child = &mut children[place];
                child.node.remove(cut, slot);
                child.all.remove(slot);
                child.node.is_empty()
            }
        };
        if empty {
            self.ranks.remove(place);
            match &mut self.part {
                Part::Leaf(entries) => {
                    entries.remove(place);
                }
                Part::Inner(children) => {
                    children.remove(place);
                }
            }
        }
    }
}
