//! Canonical: one text for all spellings of a clause that are known to mean the same. Clauses that
//! are nothing but columns compared with constants are told apart by what they compare, all others
//! by their tree.

use super::key::Key;
use super::syntax::{print, quoted};
use super::types::{Scalar, Type};
use super::{Equality, Params, Predicate, WhereError, parsed};
use crate::words::Relation;

/// The canonical text of `clause`; `None` for one that takes every row.
///
/// # Errors
/// As [`compile_with`](super::compile_with) has them.
pub(crate) fn canonical(
    relation: &Relation,
    clause: Option<&str>,
    params: &Params,
) -> Result<Option<String>, WhereError> {
    let (predicate, tree) = parsed(relation, clause, params)?;
    Ok(match (predicate, tree) {
        (Predicate::Clause(None), _) | (_, None) => None,
        (Predicate::AnyOf(terms), _) if terms.is_empty() => Some("false".into()),
        (Predicate::AnyOf(terms), _) => {
            let terms = terms.iter().map(|term| equality(relation, term));
            Some(terms.collect::<Vec<_>>().join(" or "))
        }
        (Predicate::Clause(Some(_)), Some(tree)) => Some(print(&tree)),
    })
}

fn equality(relation: &Relation, term: &Equality) -> String {
    let column = relation.columns.get(term.column());
    let name = column.map_or("", |column| &column.name);
    // A jsonb is compared as a text only where it was cast to one.
    let of = column.and_then(Type::of);
    let cast = if of == Some(Scalar::Jsonb.plain()) { "::text" } else { "" };
    let value = match term.key() {
        Key::Bool(value) => value.to_string(),
        Key::Int(value) => value.to_string(),
        Key::Uuid(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Key::Text(text) => String::from_utf8_lossy(text).replace('\'', "''"),
    };
    format!("{}{cast} = '{value}'", quoted(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::compile;
    use crate::words::{Column, TableName};

    fn items() -> Relation {
        let columns = [
            ("id", 20),
            ("name", 25),
            ("Kind", 1043),
            ("flag", 16),
            ("uid", 2950),
            ("price", 1700),
            ("tags", 1009),
            ("made", 1114),
            ("letter", 1042),
            ("doc", 3802),
        ];
        let columns = columns.map(|(name, oid)| Column::new(name, oid, false));
        Relation::new(7, TableName::new("public", "items"), columns.into())
    }

    fn text(clause: &str) -> Option<String> {
        canonical(&items(), Some(clause), &[]).unwrap_or_else(|error| panic!("{clause}: {error}"))
    }

    #[test]
    fn spellings_of_one_clause_have_one_text() {
        for (spellings, canonical) in [
            (
                &["id = 7", "7=ID", "\"id\" = '7'", "public.items.id IN (7, 7)", "((id)=6+1)"][..],
                "\"id\" = '7'",
            ),
            (
                &["name='it''s' OR id=2", "id IN (2) or NAME = 'it''s'"],
                "\"id\" = '2' or \"name\" = 'it''s'",
            ),
            (&["doc::text = '1'", "'1' = CAST(doc AS varchar)"], "\"doc\"::text = '1'"),
            (&["id = NULL", "id = 7.5", "false"], "false"),
            (&["flag", "flag IS TRUE", "flag = 'on'"], "\"flag\" = 'true'"),
            (
                &["uid = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
                "\"uid\" = 'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
            ),
            (
                &[
                    "price<5 and (\"name\" Like 'a%' AND \"Kind\" != 'x')",
                    "items.price < 5 AND NAME LIKE 'a%' AND \"Kind\" <> 'x' -- so",
                ],
                "((\"price\" < 5) and (\"name\" like 'a%') and (\"Kind\" <> 'x'))",
            ),
            (
                &[
                    "made > DATE '2024-01-01' + 1",
                    "made > CAST('2024-01-01' AS date) + 1",
                    "made>'2024-01-01'::date+1",
                ],
                "(\"made\" > (cast('2024-01-01' as date) + 1))",
            ),
            (&["name ISNULL", "NAME is NULL"], "(\"name\" is null)"),
        ] {
            for spelling in spellings {
                assert_eq!(text(spelling).as_deref(), Some(canonical), "{spelling}");
            }
        }
        assert_eq!((text("true"), text("id = 1 OR TRUE")), (None, None));
    }

    #[test]
    fn the_text_is_a_clause_of_the_same_meaning_and_has_itself_as_its_text() {
        for clause in [
            "id <> - 7 + +1 * 2 / 3 % 4",
            "NOT (id > 1 AND id >= 2 OR id < 3 AND id <= 4)",
            "id = ANY ('{1,2}') AND id <> ALL ('{3}')",
            "flag IS NOT UNKNOWN AND (id > 1) IS FALSE",
            "id IS DISTINCT FROM 1 OR name IS NOT DISTINCT FROM 'a'",
            "id BETWEEN 1 AND 2 AND price NOT BETWEEN SYMMETRIC 3 AND 1e0",
            "id NOT IN (1, 2, NULL)",
            "name NOT LIKE 'a#%' ESCAPE '#' AND name ILIKE 'b%' AND name NOT ILIKE 'a\\\\b'",
            "CASE id WHEN 1 THEN true ELSE false END AND CASE WHEN flag THEN id = 2 END",
            "coalesce(name, 'x') || substring(name FROM 2 FOR 3) = trim(LEADING 'a' FROM name)",
            "tags[1] = 'a' AND tags @> ARRAY['a', name] AND tags <@ '{b}' AND tags && ARRAY[name]",
            "name ~ 'a' OR name ~* 'a' OR name !~ 'a' OR name !~* 'a'",
            "price::numeric(5, 2) > 1 AND letter::char(3) = 'abc' AND name::varchar(2) = 'ab'",
            "letter::bpchar < 'b' AND id::text > '1' OR tags::text[] = '{}'",
            "made + interval '1 day' > '2024-01-01' AND greatest(id, 2) > least(3, id)",
        ] {
            let canonical = text(clause).unwrap();
            let again = compile(&items(), Some(&canonical));
            assert_eq!(again, compile(&items(), Some(clause)), "{canonical}");
            assert_eq!(text(&canonical).as_deref(), Some(&*canonical), "{clause}");
        }
    }

    #[test]
    fn parameters_are_the_constants_that_they_are() {
        let params: [Option<Box<str>>; 2] = [Some("x".into()), Some("7".into())];
        for clause in ["id = $2 AND name < $1", "name = $1 OR id = $2"] {
            let constants = clause.replace("$1", "'x'").replace("$2", "'7'");
            let found = canonical(&items(), Some(clause), &params);
            assert_eq!(found, Ok(text(&constants)), "{clause}");
        }
    }
}
