//! Access: by what of a row the rows of a clause can be found. Each alternative of the clause gives
//! paths: constants to look up by the values of expressions, and at most one range. What a path
//! does not say is its rest, which is asked of the rows that it finds; clauses that differ in what
//! they are found by only have the same rest.

use super::clause::{Alternatives, Clause, flattened};
use super::eval::Rest;
use super::expr::{ArrayTest, Comparison, E, Expr, Function};
use super::value::Datum;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// The most combinations of keys of one alternative; lists that would make more are left to the
/// clause itself.
const PATHS_MAX: usize = 64;
/// The longest prefix that is looked up.
const PREFIX_BYTES_MAX: usize = 64;

/// What a row is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Probe {
    pub(crate) expr: E,
    pub(crate) kind: ProbeKind,
}

/// What of an expression's value is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ProbeKind {
    /// The value itself.
    Value,
    /// Each element of the array.
    Element,
    /// Each beginning of the text.
    Prefix,
    /// The same of the text in lower case.
    PrefixIgnoringCase,
}

/// Values between two bounds, each with whether it belongs to the range itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) expr: E,
    pub(crate) low: Option<(Datum<'static>, bool)>,
    pub(crate) high: Option<(Datum<'static>, bool)>,
}

/// Values of several probes, in their order.
pub(crate) type Keys<'a> = SmallVec<[Datum<'a>; 2]>;

/// One way to find rows: by all of one combination of keys, and by the range too.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// In order, no two alike. At most one is not of kind `Value`.
    pub(crate) probes: SmallVec<[Probe; 2]>,
    /// The combinations of which any will do; an empty one where there are no probes.
    pub(crate) keys: Vec<Keys<'static>>,
    pub(crate) range: Option<Range>,
    /// What must hold too of a row that is found, for it to belong to the shape.
    pub(super) rest: Vec<E>,
}

impl Path {
    /// Whether every row that is found belongs to the shape.
    pub(crate) fn is_exact(&self) -> bool {
        self.rest.is_empty()
    }

    /// The rest as a clause of its own, or as `whole`, the clause that the path is of, if that is
    /// the same.
    pub(crate) fn rest(&self, whole: &Arc<Clause>) -> Arc<Clause> {
        if whole.is_all(&self.rest) {
            return Arc::clone(whole);
        }
        Arc::new(Clause { alternatives: smallvec![self.rest.as_slice().into()] })
    }
}

/// What a condition says that can be looked up.
enum Fact {
    Always,
    Never,
    /// One of the keys is hit; exact if that is all that it says.
    Keys(Probe, Vec<Datum<'static>>, bool),
    Range(Range),
    /// One of the paths is hit.
    Any(Vec<Path>),
    Opaque,
}

/// The paths of a clause.
pub(super) fn paths(alternatives: &Alternatives) -> Vec<Path> {
    alternatives.iter().flat_map(|conditions| conjunction(conditions)).collect()
}

/// What is gathered of the conditions of one alternative; each with the condition that says it.
#[derive(Default)]
struct Gathered<'e> {
    /// With whether they say all of the condition.
    keys: Vec<(Probe, Vec<Datum<'static>>, Option<&'e E>)>,
    ranges: Vec<(Range, SmallVec<[&'e E; 2]>)>,
    any: Vec<(Vec<Path>, &'e E)>,
    /// What the paths do not say.
    rest: Vec<E>,
}

fn conjunction(conditions: &[E]) -> Vec<Path> {
    let mut gathered = Gathered::default();
    for condition in conditions {
        match fact(condition) {
            Fact::Always => {}
            Fact::Never => return Vec::new(),
            Fact::Opaque => gathered.rest.push(Arc::clone(condition)),
            Fact::Keys(probe, keys, exact) => gathered.add_keys(probe, keys, exact, condition),
            Fact::Range(range) => gathered.add_range(range, condition),
            Fact::Any(paths) => gathered.any.push((paths, condition)),
        }
    }
    gathered.paths()
}

impl<'e> Gathered<'e> {
    fn add_keys(&mut self, probe: Probe, keys: Vec<Datum<'static>>, exact: bool, condition: &'e E) {
        let known = self.keys.iter().any(|(known, ..)| *known == probe);
        if known || !exact {
            self.rest.push(Arc::clone(condition));
        }
        if !known {
            self.keys.push((probe, keys, exact.then_some(condition)));
        }
    }

    fn add_range(&mut self, range: Range, condition: &'e E) {
        let known = self.ranges.iter_mut().find(|(known, _)| known.expr == range.expr);
        let Some((known, said_by)) = known else {
            return self.ranges.push((range, smallvec![condition]));
        };
        let both = (known.low.is_some() && range.low.is_some())
            || (known.high.is_some() && range.high.is_some());
        if both {
            return self.rest.push(Arc::clone(condition));
        }
        said_by.push(condition);
        known.low = known.low.take().or(range.low);
        known.high = known.high.take().or(range.high);
    }

    fn paths(mut self) -> Vec<Path> {
        // One key each first, so that lists are multiplied only while the bound allows.
        self.keys.sort_by_key(|(probe, keys, _)| (probe.kind != ProbeKind::Value, keys.len()));
        let mut chosen = SmallVec::<[(Probe, Vec<Datum<'static>>); 2]>::new();
        let (mut count, mut many) = (1, false);
        for (probe, keys, said_by) in self.keys {
            let multiple = probe.kind != ProbeKind::Value;
            if (multiple && many) || count * keys.len() > PATHS_MAX {
                self.rest.extend(said_by.cloned());
                continue;
            }
            many |= multiple;
            count *= keys.len();
            chosen.push((probe, keys));
        }
        if count == 0 {
            return Vec::new();
        }
        chosen.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.ranges.sort_by_key(|(range, _)| range.low.is_none() || range.high.is_none());
        let mut ranges = self.ranges.into_iter();
        let range = ranges.next().map(|(range, _)| range);
        self.rest.extend(ranges.flat_map(|(_, said_by)| said_by).cloned());
        let mut any = self.any.into_iter();
        let bare = chosen.is_empty() && range.is_none();
        let alternatives = if bare { any.next() } else { None };
        self.rest.extend(any.map(|(_, said_by)| said_by).cloned());
        if let Some((mut paths, _)) = alternatives {
            paths.iter_mut().for_each(|path| path.rest.extend_from_slice(&self.rest));
            return paths;
        }
        let keys = combinations(&chosen, count);
        let probes = chosen.into_iter().map(|(probe, _)| probe).collect();
        vec![Path { probes, keys, range, rest: self.rest }]
    }
}

/// One key of each list, in all ways, which are `count`.
fn combinations(lists: &[(Probe, Vec<Datum<'static>>)], count: usize) -> Vec<Keys<'static>> {
    let mut all = Vec::with_capacity(count);
    all.push(Keys::new());
    for (_, list) in lists {
        let known = all.len();
        // What is there already gets the first key, copies of it the others.
        for key in list.get(1..).unwrap_or_default() {
            for place in 0..known {
                let mut keys: Keys<'static> = all[place].clone();
                keys.push(key.clone());
                all.push(keys);
            }
        }
        if let Some(first) = list.first() {
            all[..known].iter_mut().for_each(|keys| keys.push(first.clone()));
        }
    }
    all
}

fn value(expr: &E) -> Probe {
    Probe { expr: Arc::clone(expr), kind: ProbeKind::Value }
}

fn not_null(expr: &E) -> Fact {
    let is_null = value(&Arc::new(Expr::IsNull(Arc::clone(expr))));
    Fact::Keys(is_null, vec![Datum::Bool(false)], true)
}

fn fact(condition: &E) -> Fact {
    match &**condition {
        Expr::Const(Some(Datum::Bool(true))) => Fact::Always,
        Expr::Const(_) => Fact::Never,
        Expr::Compare(op, left, right) => match (&**left, &**right) {
            (Expr::Const(None), _) | (_, Expr::Const(None)) => Fact::Never,
            (_, Expr::Const(Some(constant))) => comparison(*op, left, constant, condition),
            (Expr::Const(Some(constant)), _) => {
                comparison(op.mirrored(), right, constant, condition)
            }
            _ => as_is(condition),
        },
        Expr::In(arg, set, _) => Fact::Keys(value(arg), set.to_vec(), true),
        Expr::Quantified { op: Comparison::Eq, all: false, left, right } => {
            any(left, right, condition)
        }
        Expr::Like(arg, pattern) => {
            let (prefix, rest) = pattern.prefix();
            like(arg, prefix, rest, pattern.ignores_case())
        }
        Expr::ArrayTest(test, left, right) => array_test(*test, left, right, condition),
        Expr::IsBool(arg, expected) if !has_constant(arg) => {
            Fact::Keys(value(arg), vec![Datum::Bool(*expected)], true)
        }
        Expr::Not(arg) => match &**arg {
            Expr::Distinct(left, right) => match (&**left, &**right) {
                (_, Expr::Const(constant)) => not_distinct(left, constant.as_ref()),
                (Expr::Const(constant), _) => not_distinct(right, constant.as_ref()),
                _ => as_is(condition),
            },
            _ if !has_constant(arg) => Fact::Keys(value(arg), vec![Datum::Bool(false)], true),
            _ => Fact::Opaque,
        },
        Expr::Or(_) => alternatives(condition),
        _ => as_is(condition),
    }
}

/// A condition without constants is evaluated once a change for all clauses that have it.
fn as_is(condition: &E) -> Fact {
    if has_constant(condition) {
        Fact::Opaque
    } else {
        Fact::Keys(value(condition), vec![Datum::Bool(true)], true)
    }
}

fn comparison(op: Comparison, arg: &E, constant: &Datum<'static>, condition: &E) -> Fact {
    let range = |low, high| Fact::Range(Range { expr: Arc::clone(arg), low, high });
    let bound = |inclusive| Some((constant.clone(), inclusive));
    match op {
        Comparison::Eq => Fact::Keys(value(arg), vec![constant.clone()], true),
        Comparison::NotEq => as_is(condition),
        Comparison::Less => range(None, bound(false)),
        Comparison::LessEq => range(None, bound(true)),
        Comparison::Greater => range(bound(false), None),
        Comparison::GreaterEq => range(bound(true), None),
    }
}

fn not_distinct(arg: &E, constant: Option<&Datum<'static>>) -> Fact {
    match constant {
        Some(constant) => Fact::Keys(value(arg), vec![constant.clone()], true),
        None => {
            let is_null = value(&Arc::new(Expr::IsNull(Arc::clone(arg))));
            Fact::Keys(is_null, vec![Datum::Bool(true)], true)
        }
    }
}

fn distinct(items: &[Option<Datum<'static>>]) -> Vec<Datum<'static>> {
    let mut keys: Vec<_> = items.iter().flatten().cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn any(left: &E, right: &E, condition: &E) -> Fact {
    match (&**left, &**right) {
        (Expr::Const(None), _) | (_, Expr::Const(None)) => Fact::Never,
        (_, Expr::Const(Some(Datum::Array(array)))) => {
            Fact::Keys(value(left), distinct(&array.items), true)
        }
        (Expr::Const(Some(constant)), _) => {
            let probe = Probe { expr: Arc::clone(right), kind: ProbeKind::Element };
            Fact::Keys(probe, vec![constant.clone()], true)
        }
        _ => as_is(condition),
    }
}

fn like(arg: &E, prefix: &[u8], rest: Rest, ignore_case: bool) -> Fact {
    let text = |bytes: &[u8]| Datum::owned(bytes.to_vec());
    match (prefix, rest) {
        (_, Rest::Nothing) if ignore_case => {
            let lower = Expr::Call(Function::Lower, Box::new([Arc::clone(arg)]));
            Fact::Keys(value(&Arc::new(lower)), vec![text(prefix)], true)
        }
        (_, Rest::Nothing) => Fact::Keys(value(arg), vec![text(prefix)], true),
        ([], Rest::Anything) => not_null(arg),
        ([], Rest::Something) => Fact::Opaque,
        (prefix, rest) => {
            let kind = match ignore_case {
                true => ProbeKind::PrefixIgnoringCase,
                false => ProbeKind::Prefix,
            };
            let looked_up = &prefix[..prefix.len().min(PREFIX_BYTES_MAX)];
            let exact = rest == Rest::Anything && looked_up.len() == prefix.len();
            Fact::Keys(Probe { expr: Arc::clone(arg), kind }, vec![text(looked_up)], exact)
        }
    }
}

fn array_test(test: ArrayTest, left: &E, right: &E, condition: &E) -> Fact {
    let element = |expr: &E| Probe { expr: Arc::clone(expr), kind: ProbeKind::Element };
    match (test, &**left, &**right) {
        (_, Expr::Const(None), _) | (_, _, Expr::Const(None)) => Fact::Never,
        (ArrayTest::Contains, _, Expr::Const(Some(Datum::Array(array)))) => {
            let keys = distinct(&array.items);
            if array.items.iter().any(Option::is_none) {
                return Fact::Never;
            }
            let exact = keys.len() == 1;
            match keys.into_iter().next() {
                None => not_null(left),
                Some(key) => Fact::Keys(element(left), vec![key], exact),
            }
        }
        (ArrayTest::Overlaps, _, Expr::Const(Some(Datum::Array(array)))) => {
            Fact::Keys(element(left), distinct(&array.items), true)
        }
        (ArrayTest::Overlaps, Expr::Const(Some(Datum::Array(array))), _) => {
            Fact::Keys(element(right), distinct(&array.items), true)
        }
        _ => as_is(condition),
    }
}

/// An OR inside of an AND: of use if all of its parts can be looked up.
fn alternatives(condition: &E) -> Fact {
    let parts = flattened(condition, true);
    let paths: Vec<Path> =
        parts.iter().flat_map(|part| conjunction(&flattened(part, false))).collect();
    let found = paths.iter().all(|path| !path.probes.is_empty() || path.range.is_some());
    let count = paths.iter().map(|path| path.keys.len()).sum::<usize>();
    if found && count <= PATHS_MAX { Fact::Any(paths) } else { as_is(condition) }
}

/// Whether a constant stands somewhere in `expr`: then other clauses are likely to have another.
fn has_constant(expr: &Expr) -> bool {
    let any = |items: &[&E]| items.iter().any(|item| has_constant(item));
    let list = |items: &[E]| items.iter().any(|item| has_constant(item));
    match expr {
        Expr::Const(_) | Expr::Place(_) | Expr::In(..) | Expr::Like(..) | Expr::Match(..) => true,
        Expr::Column(..) => false,
        Expr::Not(arg)
        | Expr::IsNull(arg)
        | Expr::IsBool(arg, _)
        | Expr::Negate(_, arg)
        | Expr::NegateInterval(arg)
        | Expr::Cast(_, arg) => has_constant(arg),
        Expr::Compare(_, left, right)
        | Expr::Distinct(left, right)
        | Expr::Quantified { left, right, .. }
        | Expr::NullIf(left, right)
        | Expr::Arith(_, _, left, right)
        | Expr::Time(_, left, right)
        | Expr::Concat(left, right)
        | Expr::ArrayTest(_, left, right)
        | Expr::LikeComputed { arg: left, pattern: right, .. } => any(&[left, right]),
        Expr::And(items)
        | Expr::Or(items)
        | Expr::Coalesce(items)
        | Expr::Extreme { items, .. }
        | Expr::Call(_, items)
        | Expr::Array(items) => list(items),
        Expr::Subscript(array, indexes) => has_constant(array) || list(indexes),
        Expr::Case(branches, otherwise) => {
            has_constant(otherwise) || branches.iter().any(|(c, v)| any(&[c, v]))
        }
    }
}
