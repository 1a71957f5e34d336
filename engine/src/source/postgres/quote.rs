//! Quoting: names and texts as SQL wants them.

use crate::words::TableName;

/// `name` as an identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a literal. The source sets `standard_conforming_strings`, so a backslash is itself.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `table` with its schema.
pub(super) fn table(table: &TableName) -> String {
    format!("{}.{}", ident(&table.schema), ident(&table.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_are_doubled() {
        assert_eq!(ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal(r"it's \ so"), r"'it''s \ so'");
        assert_eq!(table(&TableName::new("s", "T")), r#""s"."T""#);
    }
}
