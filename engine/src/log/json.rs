//! Json: a change as a line of JSON. A change as its shape sees it flows in, bytes flow out. What
//! shapes of the same columns are told of one change is written once and shared.

use crate::words::{ColumnValue, Form, Formed, Fragment, Relation, Value, View};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

/// The lines that are kept for one fragment take so many times its own memory at most; what is
/// beyond is written anew for each reader.
const KEPT_FACTOR: usize = 4;

/// The changes of one fragment as JSON, as far as somebody has asked for them. The lock is one of
/// readers among themselves, and held for a look-up.
#[derive(Debug, Default)]
pub(super) struct Lines {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: HashMap<Key, Arc<[u8]>, RandomState>,
    bytes: usize,
}

/// Everything that a line depends on, but for whether it is its transaction's last.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    change: u32,
    form: Form,
    view: View,
}

impl Lines {
    /// Appends the line of the change at an index of `fragment`, but for its end.
    pub(super) fn write(
        &self,
        fragment: &Fragment,
        (change, form): (u32, Form),
        view: &View,
        out: &mut Vec<u8>,
    ) {
        let key = Key { change, form, view: view.clone() };
        let known = self.kept.lock().lines.get(&key).cloned();
        if let Some(line) = known {
            out.extend_from_slice(&line);
            return;
        }
        let Some(formed) = Formed::new(fragment, (change, form)) else { return };
        let start = out.len();
        write_front(formed, view, fragment.xid(), out);
        let line = out.get(start..).unwrap_or_default();
        let mut kept = self.kept.lock();
        if kept.bytes + line.len() <= KEPT_FACTOR * fragment.bytes() {
            kept.bytes += line.len();
            kept.lines.insert(key, line.into());
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.kept.lock().lines.len()
    }
}

/// What closes a line.
pub(super) fn write_end(last: bool, out: &mut Vec<u8>) {
    let end: &[u8] = if last { b",\"last\":true}}\n" } else { b"}}\n" };
    out.extend_from_slice(end);
}

/// Appends the line of a row that a shape begins with.
pub(crate) fn write_initial_line(formed: Formed<'_>, view: &View, out: &mut Vec<u8>) {
    write_values(formed, view, out);
    put(out, format_args!(",\"headers\":{{\"operation\":\"{}\"", formed.operation()));
    write_end(false, out);
}

fn write_front(formed: Formed<'_>, view: &View, xid: u32, out: &mut Vec<u8>) {
    write_values(formed, view, out);
    let (operation, offset) = (formed.operation(), formed.change().offset());
    put(
        out,
        format_args!(
            ",\"headers\":{{\"operation\":\"{operation}\",\"offset\":\"{offset}\",\"txids\":[{xid}]"
        ),
    );
}

/// The key, and what the shape is told of the columns.
fn write_values(formed: Formed<'_>, view: &View, out: &mut Vec<u8>) {
    let change = formed.change();
    let relation = change.relation();
    out.extend_from_slice(b"{\"key\":");
    write_text(&key(relation, formed.told(view)), out);
    let told = formed.told(view).map(|told| (told.column.name.as_bytes(), told.value));
    write_object("value", told, out);
    if formed.told(view).any(|told| told.before.is_some()) {
        let old = formed.told(view);
        let old = old.filter_map(|told| Some((told.column.name.as_bytes(), told.before?)));
        write_object("old_value", old, out);
    }
}

/// The table's name, and the values that say which row it is, each in quotes.
fn key<'a>(relation: &Relation, told: impl Iterator<Item = ColumnValue<'a>>) -> Vec<u8> {
    let mut key = Vec::new();
    put_quoted(relation.table.schema.as_bytes(), &mut key);
    key.push(b'.');
    put_quoted(relation.table.name.as_bytes(), &mut key);
    let all = !relation.has_key();
    for ColumnValue { column, value, .. } in told {
        if !all && !column.key {
            continue;
        }
        key.push(b'/');
        match value {
            Value::Text(text) => put_quoted(text, &mut key),
            // No text is without quotes.
            Value::Null => key.extend_from_slice(b"null"),
            Value::Unchanged => key.push(b'?'),
        }
    }
    key
}

fn put_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn write_object<'a>(
    name: &str,
    members: impl Iterator<Item = (&'a [u8], Value<'a>)>,
    out: &mut Vec<u8>,
) {
    put(out, format_args!(",\"{name}\":{{"));
    let mut first = true;
    for (name, value) in members {
        let text = match value {
            Value::Text(text) => Some(text),
            Value::Null => None,
            Value::Unchanged => continue,
        };
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        match text {
            Some(text) => write_text(text, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// A text as JSON has it.
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for piece in text.utf8_chunks() {
        write_escaped(piece.valid().as_bytes(), out);
        if !piece.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut plain = text;
    while let Some(at) = plain.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\')
    {
        let (before, rest) = plain.split_at(at);
        out.extend_from_slice(before);
        let Some((&byte, after)) = rest.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => put(out, format_args!("\\u{byte:04x}")),
        }
        plain = after;
    }
    out.extend_from_slice(plain);
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Column, Lsn, Replica, ShapeDefinition, TableName, TransactionBuilder};

    fn table(key: bool) -> Arc<Relation> {
        let columns = ["id", "kind", "no\"te"];
        let columns = columns.iter().enumerate();
        let columns = columns.map(|(at, name)| Column::new(name, 25, key && at == 0)).collect();
        Arc::new(Relation::new(1, TableName::new("public", "it\"ems"), columns))
    }

    fn line(fragment: &Fragment, form: Form, view: &View, lines: &Lines) -> String {
        let mut out = Vec::new();
        lines.write(fragment, (0, form), view, &mut out);
        write_end(false, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn view(table: &Relation, columns: Option<&[&str]>, replica: Replica) -> View {
        let mut definition = ShapeDefinition::table(table.table.clone()).with_replica(replica);
        if let Some(columns) = columns {
            definition = definition.with_columns(columns.iter().copied());
        }
        View::of(table, &definition).unwrap()
    }

    fn update(table: &Arc<Relation>, old: [Value<'_>; 3], new: [Value<'_>; 3]) -> Fragment {
        let mut transaction = TransactionBuilder::new(733, Lsn::new(0x1000));
        transaction.update(table, old, new).unwrap();
        transaction.commit(Lsn::new(0x1001))
    }

    const HEADERS: &str = "\"offset\":\"0/1000_0\",\"txids\":[733]}}\n";

    #[test]
    fn a_line_has_what_the_shape_is_told() {
        let table = table(true);
        let text = |text: &'static str| Value::Text(text.as_bytes());
        let old = [text("7"), text("hot"), text("x")];
        let fragment = update(&table, old, [text("7"), Value::Null, Value::Unchanged]);
        let key = r#"{"key":"\"public\".\"it\"\"ems\"/\"7\"","value":{"#;
        let cases = [
            (Form::AsIs, None, Replica::Default, r#""id":"7","kind":null}"#, "update"),
            (
                Form::AsIs,
                None,
                Replica::Full,
                r#""id":"7","kind":null,"no\"te":"x"},"old_value":{"kind":"hot"}"#,
                "update",
            ),
            (Form::AsIs, Some(&["no\"te"][..]), Replica::Default, r#""id":"7"}"#, "update"),
            (
                Form::Insert,
                None,
                Replica::Default,
                r#""id":"7","kind":null,"no\"te":"x"}"#,
                "insert",
            ),
            (Form::Delete, None, Replica::Default, r#""id":"7"}"#, "delete"),
            (
                Form::Delete,
                Some(&["kind"][..]),
                Replica::Full,
                r#""id":"7","kind":"hot"}"#,
                "delete",
            ),
        ];
        for (form, columns, replica, value, operation) in cases {
            let view = view(&table, columns, replica);
            let expected =
                format!("{key}{value},\"headers\":{{\"operation\":\"{operation}\",{HEADERS}");
            assert_eq!(line(&fragment, form, &view, &Lines::default()), expected);
        }
    }

    #[test]
    fn without_a_primary_key_all_columns_are_the_key_and_texts_are_escaped() {
        let table = table(false);
        let values = [Value::Text(b"a\"b\\c/\n\x01"), Value::Null, Value::Text(b"\xff\xc3\xa9")];
        let mut transaction = TransactionBuilder::new(733, Lsn::new(0x1000));
        transaction.insert(&table, values).unwrap();
        let fragment = transaction.commit(Lsn::new(0x1001));
        let key = r#"\"public\".\"it\"\"ems\"/\"a\"\"b\\c/\n\u0001\"/null/\"�é\""#;
        let value = r#"{"id":"a\"b\\c/\n\u0001","kind":null,"no\"te":"�é"}"#;
        let expected = format!(
            "{{\"key\":\"{key}\",\"value\":{value},\"headers\":{{\"operation\":\"insert\",{HEADERS}"
        );
        assert_eq!(line(&fragment, Form::AsIs, &View::default(), &Lines::default()), expected);
    }

    #[test]
    fn shapes_of_the_same_columns_share_a_line_and_others_do_not() {
        let table = table(true);
        let text = |text: &'static str| Value::Text(text.as_bytes());
        let old = [text("7"), text("hot"), text("x")];
        let fragment = update(&table, old, [text("7"), text("cold"), text("y")]);
        let lines = Lines::default();
        let write = |columns: &[&str]| {
            let view = view(&table, Some(columns), Replica::Default);
            (line(&fragment, Form::AsIs, &view, &lines), lines.count())
        };
        let (first, _) = write(&["kind"]);
        assert_eq!(write(&["kind"]), (first.clone(), 1), "another view, equal to the first");
        let (other, count) = write(&["no\"te"]);
        assert!(other != first && count == 2);
        // What is kept is bounded, and what is not kept is written all the same.
        lines.kept.lock().bytes = usize::MAX / 2;
        let (all, count) = write(&["kind", "no\"te"]);
        assert!(all.contains("cold") && all.contains("\"y\"") && count == 2);
    }
}
