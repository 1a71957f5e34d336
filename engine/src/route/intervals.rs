//! Two-sided ranges, by their lower cut, each node of the tree knowing the highest upper cut below
//! it. Whoever asks for a value walks the part whose lower cuts are not above it, and of that only
//! nodes in which some range reaches it.

use super::cuts::Cut;
use crate::predicate::Datum;
use crate::words::{Slot, Targets};

/// The most entries of a node.
const NODE_MAX: usize = 32;

/// A range: what lies behind the lower cut and before the upper one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) low: Cut,
    pub(super) high: Cut,
}

type Entry = (Interval, Slot);

/// Ranges with their slots.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Node,
}

#[derive(Debug)]
enum Node {
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

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Vec::new())
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
            self.root = Node::Inner([left, right].into_iter().filter_map(Child::of).collect());
        }
    }

    /// Doing it twice is doing it once (INV5).
    pub(super) fn remove(&mut self, interval: &Interval, slot: Slot) {
        self.root.remove(&(interval.clone(), slot));
        if self.root.is_empty() {
            self.root = Node::default();
        }
    }

    /// Adds the slots whose range holds `value`.
    pub(super) fn nominate(&self, value: &Datum<'_>, targets: &mut Targets) {
        self.root.nominate(value, targets);
    }

    /// Adds every slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        let mut stack = vec![&self.root];
        while let Some(node) = stack.pop() {
            match node {
                Node::Leaf(entries) => targets.slots.extend(entries.iter().map(|(_, slot)| *slot)),
                Node::Inner(children) => stack.extend(children.iter().map(|child| &child.node)),
            }
        }
    }
}

impl Child {
    fn of(node: Node) -> Option<Child> {
        let first = match &node {
            Node::Leaf(entries) => entries.first().cloned(),
            Node::Inner(children) => children.first().map(|child| child.first.clone()),
        };
        let highest = node.highest()?.clone();
        Some(Child { first: first?, highest, node })
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(entries) => entries.is_empty(),
            Node::Inner(children) => children.is_empty(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Node::Leaf(entries) => entries.len() > NODE_MAX,
            Node::Inner(children) => children.len() > NODE_MAX,
        }
    }

    fn highest(&self) -> Option<&Cut> {
        match self {
            Node::Leaf(entries) => entries.iter().map(|(interval, _)| &interval.high).max(),
            Node::Inner(children) => children.iter().map(|child| &child.highest).max(),
        }
    }

    /// Takes the upper half out.
    fn split(&mut self) -> Node {
        match self {
            Node::Leaf(entries) => Node::Leaf(entries.split_off(entries.len() / 2)),
            Node::Inner(children) => Node::Inner(children.split_off(children.len() / 2)),
        }
    }

    fn insert(&mut self, entry: Entry) {
        match self {
            Node::Leaf(entries) => {
                if let Err(place) = entries.binary_search(&entry) {
                    entries.insert(place, entry);
                }
            }
            Node::Inner(children) => {
                let next = children.partition_point(|child| child.first <= entry);
                let place = next.saturating_sub(1);
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
                }
            }
        }
    }

    fn remove(&mut self, entry: &Entry) {
        match self {
            Node::Leaf(entries) => {
                if let Ok(place) = entries.binary_search(entry) {
                    entries.remove(place);
                }
            }
            Node::Inner(children) => {
                let next = children.partition_point(|child| child.first <= *entry);
                let Some(place) = next.checked_sub(1) else { return };
                let child = &mut children[place];
                child.node.remove(entry);
                match child.node.highest() {
                    Some(highest) if *highest < child.highest => child.highest = highest.clone(),
                    Some(_) => {}
                    None => {
                        children.remove(place);
                    }
                }
            }
        }
    }

    /// As deep as the tree, whose height is a logarithm.
    fn nominate(&self, value: &Datum<'_>, targets: &mut Targets) {
        match self {
            Node::Leaf(entries) => {
                let end = entries.partition_point(|(interval, _)| !interval.low.is_above(value));
                let holding = entries[..end].iter().filter(|(i, _)| i.high.is_above(value));
                targets.slots.extend(holding.map(|(_, slot)| *slot));
            }
            Node::Inner(children) => {
                let end = children.partition_point(|child| !child.first.0.low.is_above(value));
                for child in children[..end].iter().filter(|child| child.highest.is_above(value)) {
                    child.node.nominate(value, targets);
                }
            }
        }
    }
}
