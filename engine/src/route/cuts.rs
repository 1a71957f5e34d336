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
    pub(super) value: Datum<'static>,
    pub(super) behind: bool,
}

impl Cut {
    /// Whether `value` lies before the cut.
    pub(super) fn is_above(&self, value: &Datum<'_>) -> bool {
        match value.cmp(&self.value) {
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

#[derive(Debug)]
enum Node {
    /// In order.
    Leaf(Vec<(Cut, SlotSet)>),
    /// In order, none empty.
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

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Vec::new())
    }
}

impl Cuts {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    pub(super) fn insert(&mut self, cut: &Cut, slot: Slot, ids: &mut SetIds) {
        self.root.insert(cut, slot, ids);
        if self.root.is_full() {
            let right = self.root.split();
            let left = std::mem::take(&mut self.root);
            let children = [left, right].into_iter().filter_map(|node| Child::of(node, ids));
            self.root = Node::Inner(children.collect());
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
    pub(super) fn nominate(&self, value: &Datum<'_>, above: bool, targets: &mut Targets) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let place = entries.partition_point(|(cut, _)| !cut.is_above(value));
                    let part = if above { &entries[place..] } else { &entries[..place] };
                    return part.iter().for_each(|(_, set)| set.nominate(targets));
                }
                Node::Inner(children) => {
                    // The child in which the border lies.
                    let next = children.partition_point(|child| !child.first.is_above(value));
                    let border = next.saturating_sub(1);
                    let part = if above { &children[border + 1..] } else { &children[..border] };
                    part.iter().for_each(|child| child.all.nominate(targets));
                    let Some(child) = children.get(border) else { return };
                    node = &child.node;
                }
            }
        }
    }

    /// Calls `visit` for each slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        let mut stack = vec![&self.root];
        while let Some(node) = stack.pop() {
            match node {
                Node::Leaf(entries) => entries.iter().for_each(|(_, set)| set.nominate(targets)),
                Node::Inner(children) => stack.extend(children.iter().map(|child| &child.node)),
            }
        }
    }
}

impl Child {
    fn of(node: Node, ids: &mut SetIds) -> Option<Child> {
        let first = node.first()?.clone();
        let mut all = SlotSet::default();
        match &node {
            Node::Leaf(entries) => entries.iter().for_each(|(_, set)| all.extend(set, ids)),
            Node::Inner(children) => children.iter().for_each(|child| all.extend(&child.all, ids)),
        }
        Some(Child { first, all, node })
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

    fn first(&self) -> Option<&Cut> {
        match self {
            Node::Leaf(entries) => entries.first().map(|(cut, _)| cut),
            Node::Inner(children) => children.first().map(|child| &child.first),
        }
    }

    /// Takes the upper half out.
    fn split(&mut self) -> Node {
        match self {
            Node::Leaf(entries) => Node::Leaf(entries.split_off(entries.len() / 2)),
            Node::Inner(children) => Node::Inner(children.split_off(children.len() / 2)),
        }
    }

    fn insert(&mut self, cut: &Cut, slot: Slot, ids: &mut SetIds) {
        match self {
            Node::Leaf(entries) => match entries.binary_search_by(|(known, _)| known.cmp(cut)) {
                Ok(place) => entries[place].1.insert(slot, ids),
                Err(place) => entries.insert(place, (cut.clone(), SlotSet::One(slot))),
            },
            Node::Inner(children) => {
                let next = children.partition_point(|child| child.first <= *cut);
                let place = next.saturating_sub(1);
                let child = &mut children[place];
                if *cut < child.first {
                    child.first = cut.clone();
                }
                child.all.insert(slot, ids);
                child.node.insert(cut, slot, ids);
                if child.node.is_full() {
                    let right = child.node.split();
                    let left = std::mem::take(&mut child.node);
                    let halves = [left, right].into_iter().filter_map(|node| Child::of(node, ids));
                    children.splice(place..=place, halves.collect::<Vec<_>>());
                }
            }
        }
    }

    /// Nodes that became empty go; the others stay as they are, however few entries they have.
    fn remove(&mut self, cut: &Cut, slot: Slot) {
        match self {
            Node::Leaf(entries) => {
                if let Ok(place) = entries.binary_search_by(|(known, _)| known.cmp(cut)) {
                    entries[place].1.remove(slot);
                    if entries[place].1.is_empty() {
                        entries.remove(place);
                    }
                }
            }
            Node::Inner(children) => {
                let next = children.partition_point(|child| child.first <= *cut);
                let Some(place) = next.checked_sub(1) else { return };
                let child = &mut children[place];
                child.node.remove(cut, slot);
                child.all.remove(slot);
                if child.node.is_empty() {
                    children.remove(place);
                }
            }
        }
    }
}
