//! Two-sided ranges, by their lower cut, each node of the tree knowing the highest upper cut below
//! it. Whoever asks for a value walks the part whose lower cuts are not above it, and of that only
//! nodes in which some range reaches it.

use super::cuts::{Cut, Sought};
use crate::words::{Slot, Targets};

/// The most entries of a node.
const NODE_MAX: usize = 32;

/// A range: what lies behind the lower cut and before the upper one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) low: Cut,
    pub(super) high: Cut,
}

impl Interval {
    fn ranks(&self) -> (i64, i64) {
        (self.low.rank(), self.high.rank())
    }
}

type Entry = (Interval, Slot);

/// Ranges with their slots.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    part: Part,
    /// Of each entry the ranks of its cuts, of each child those of the lowest and the highest cut
    /// below it. Side by side, since a value that is looked for is compared with many of them.
    ranks: Vec<(i64, i64)>,
}

#[derive(Debug)]
enum Part {
    /// In order.
    Leaf(Vec<Entry>),
    /// In order, none empty.
    Inner(Vec<Child>),
}

#[derive(Debug)]
struct Child {
    /// Not above the first entry below; above all entries of the child before.
    first: Entry,
    /// No upper cut below is above it.
    highest: Cut,
    node: Node,
}

impl Default for Part {
    fn default() -> Part {
        Part::Leaf(Vec::new())
    }
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    pub(super) fn insert(&mut self, interval: &Interval, slot: Slot) {
        self.root.insert((interval.clone(), slot));
        if self.root.is_full() {
            let right = self.root.split();
            let left = std::mem::take(&mut self.root);
            let halves = [left, right].into_iter().filter_map(Child::of);
            self.root = Node::new(Part::Inner(halves.collect()));
        }
    }

    /// Doing it twice is doing it once (INV5).
    pub(super) fn remove(&mut self, interval: &Interval, slot: Slot) {
        self.root.remove(&(interval.clone(), slot));
        if self.root.is_empty() {
            self.root = Node::default();
        }
    }

    /// Adds the slots whose range holds the value.
    pub(super) fn nominate(&self, value: Sought<'_>, targets: &mut Targets) {
        self.root.nominate(value, targets);
    }

    /// Adds every slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        let mut stack = vec![&self.root];
        while let Some(node) = stack.pop() {
            match &node.part {
                Part::Leaf(entries) => targets.slots.extend(entries.iter().map(|(_, slot)| *slot)),
                Part::Inner(children) => stack.extend(children.iter().map(|child| &child.node)),
            }
        }
    }
}

impl Child {
    fn ranks(&self) -> (i64, i64) {
        (self.first.0.low.rank(), self.highest.rank())
    }

    fn of(node: Node) -> Option<Child> {
        let first = match &node.part {
            Part::Leaf(entries) => entries.first().cloned(),
            Part::Inner(children) => children.first().map(|child| child.first.clone()),
        };
        let highest = node.highest()?.clone();
        Some(Child { first: first?, highest, node })
    }
}

impl Node {
    fn new(part: Part) -> Node {
        let mut node = Node { part, ranks: Vec::new() };
        node.rank();
        node
    }

    /// Says again what the ranks are.
    fn rank(&mut self) {
        self.ranks.clear();
        match &self.part {
            Part::Leaf(entries) => {
                self.ranks.extend(entries.iter().map(|(interval, _)| interval.ranks()));
            }
            Part::Inner(children) => self.ranks.extend(children.iter().map(Child::ranks)),
        }
    }

    fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    fn is_full(&self) -> bool {
        self.ranks.len() > NODE_MAX
    }

    fn highest(&self) -> Option<&Cut> {
        match &self.part {
            Part::Leaf(entries) => entries.iter().map(|(interval, _)| &interval.high).max(),
            Part::Inner(children) => children.iter().map(|child| &child.highest).max(),
        }
    }

    /// Takes the upper half out.
    fn split(&mut self) -> Node {
        let half = self.ranks.len() / 2;
        let ranks = self.ranks.split_off(half);
        let part = match &mut self.part {
            Part::Leaf(entries) => Part::Leaf(entries.split_off(half)),
            Part::Inner(children) => Part::Inner(children.split_off(half)),
        };
        Node { part, ranks }
    }

    /// How many entries, or first ones of children, are not above `entry`.
    fn place(&self, entry: &Entry) -> usize {
        let rank = entry.0.low.rank();
        let lower = self.ranks.partition_point(|(low, _)| *low < rank);
        let same = self.ranks[lower..].partition_point(|(low, _)| *low == rank);
        let same = lower..lower + same;
        lower
            + match &self.part {
                Part::Leaf(entries) => entries[same].partition_point(|known| known <= entry),
                Part::Inner(children) => {
                    children[same].partition_point(|child| child.first <= *entry)
                }
            }
    }

    fn insert(&mut self, entry: Entry) {
        let next = self.place(&entry);
        let place = next.saturating_sub(1);
        match &mut self.part {
            Part::Leaf(entries) => {
                if entries.get(place) != Some(&entry) {
                    self.ranks.insert(next, entry.0.ranks());
                    entries.insert(next, entry);
                }
            }
            Part::Inner(children) => {
                let child = &mut children[place];
                if entry < child.first {
                    child.first = entry.clone();
                }
                if entry.0.high > child.highest {
                    child.highest = entry.0.high.clone();
                }
                child.node.insert(entry);
                if child.node.is_full() {
                    let right = child.node.split();
                    let left = std::mem::take(&mut child.node);
                    let halves = [left, right].into_iter().filter_map(Child::of);
                    children.splice(place..=place, halves.collect::<Vec<_>>());
                    self.rank();
                } else {
                    self.ranks[place] = child.ranks();
                }
            }
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let Some(place) = self.place(entry).checked_sub(1) else { return };
        match &mut self.part {
            Part::Leaf(entries) => {
                if entries[place] == *entry {
                    entries.remove(place);
                    self.ranks.remove(place);
                }
            }
            Part::Inner(children) => {
                let child = &mut children[place];
                child.node.remove(entry);
                // Most are not the highest, and then nothing changes above them.
                if entry.0.high < child.highest && !child.node.is_empty() {
                    return;
                }
                match child.node.highest() {
                    Some(highest) if *highest < child.highest => child.highest = highest.clone(),
                    Some(_) => return,
                    None => {
                        children.remove(place);
                        self.ranks.remove(place);
                        return;
                    }
                }
                self.ranks[place] = child.ranks();
            }
        }
    }

    /// As deep as the tree, whose height is a logarithm.
    fn nominate(&self, value: Sought<'_>, targets: &mut Targets) {
        let begun = self.ranks.iter().take_while(|(low, _)| *low <= value.rank());
        let reaching = begun.enumerate().filter(|(_, (_, high))| *high >= value.rank());
        for (place, _) in reaching {
            match &self.part {
                Part::Leaf(entries) => {
                    let (interval, slot) = &entries[place];
                    if !interval.low.is_above(value) && interval.high.is_above(value) {
                        targets.slots.push(*slot);
                    }
                }
                Part::Inner(children) => {
                    let child = &children[place];
                    if !child.first.0.low.is_above(value) && child.highest.is_above(value) {
                        child.node.nominate(value, targets);
                    }
                }
            }
        }
    }
}
