//! What clauses mean, what is refused and where, and what no clause can make happen.

use super::syntax::{CLAUSE_BYTES_MAX, NESTING_MAX, TOKENS_MAX};
use super::types::Scalar;
use super::*;
use crate::words::{Column, Lsn, Relation, TableName, TransactionBuilder};
use std::sync::Arc;

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

fn items() -> Arc<Relation> {
    let columns = [
        ("id", 20),
        ("small", 21),
        ("count", 23),
        ("name", 25),
        ("Kind", 1043),
        ("flag", 16),
        ("uid", 2950),
        ("price", 1700),
        ("point", 600),
    ];
    let columns = columns.map(|(name, oid)| Column::new(name, oid, false));
    Arc::new(Relation::new(7, TableName::new("public", "items"), columns.into()))
}

fn terms(clause: &str) -> Vec<Equality> {
    match compile(&items(), Some(clause)) {
        Ok(Predicate::AnyOf(terms)) => terms.into_vec(),
        other => panic!("{clause}: {other:?}"),
    }
}

fn text(text: &str) -> Key<'_> {
    Key::Text(text.as_bytes())
}

#[test]
fn a_constant_takes_the_column_s_type_as_in_postgres() {
    let uuid = *b"\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11";
    for (clause, column, key) in [
        ("id = 7", 0, Key::Int(7)),
        ("7 = id", 0, Key::Int(7)),
        ("((id) = (7))", 0, Key::Int(7)),
        ("id = '7'", 0, Key::Int(7)),
        ("id = ' -7 '", 0, Key::Int(-7)),
        ("id = - -7", 0, Key::Int(7)),
        ("id = -(+7)", 0, Key::Int(-7)),
        ("id = -9223372036854775808", 0, Key::Int(i64::MIN)),
        ("small = 32767", 1, Key::Int(32767)),
        ("count = -2147483648", 2, Key::Int(-2147483648)),
        ("name = 'x'", 3, text("x")),
        ("name = 'it''s'", 3, text("it's")),
        ("name = 'a\\nb'", 3, text("a\\nb")),
        ("name = ' é '", 3, text(" é ")),
        ("name = ''", 3, text("")),
        ("\"Kind\" = 'hot'", 4, text("hot")),
        ("flag = true", 5, Key::Bool(true)),
        ("FLAG = FALSE", 5, Key::Bool(false)),
        ("flag = 't'", 5, Key::Bool(true)),
        ("flag = ' oN '", 5, Key::Bool(true)),
        ("flag = 'of'", 5, Key::Bool(false)),
        ("uid = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", 6, Key::Uuid(uuid)),
        ("items.id = 7", 0, Key::Int(7)),
        ("Public.ITEMS.Id = 7", 0, Key::Int(7)),
        ("id = 7 -- seven", 0, Key::Int(7)),
        ("id = 6 + 1", 0, Key::Int(7)),
        ("id = '7'::int2", 0, Key::Int(7)),
        ("id IN (7)", 0, Key::Int(7)),
        ("flag", 5, Key::Bool(true)),
        ("NOT flag", 5, Key::Bool(false)),
        ("flag IS FALSE", 5, Key::Bool(false)),
    ] {
        assert_eq!(terms(clause), [Equality::new(column, key)], "{clause}");
    }
}

#[test]
fn terms_are_sorted_and_no_two_alike() {
    let expected = [(0, Key::Int(1)), (0, Key::Int(2)), (3, text("x"))];
    let expected = expected.map(|(column, key)| Equality::new(column, key));
    assert_eq!(terms("name = 'x' OR (id = 2 OR id = 1) OR '2' = id"), expected);
    assert_eq!(terms("id IN (2, 1, NULL, 2) OR name IN ('x')"), expected);
}

#[test]
fn what_can_never_be_true_matches_nothing() {
    for clause in [
        "id = NULL",
        "NULL = name",
        "small = 32768",
        "count = -2147483649",
        "id = 9223372036854775808",
        "id = 99999999999999999999999999999999999999999999",
        "id = 7.5",
    ] {
        assert_eq!(terms(clause), [], "{clause}");
    }
    assert_eq!(terms("id = NULL OR id = 7"), [Equality::new(0, Key::Int(7))]);
}

#[track_caller]
fn refused(clause: &str) -> WhereError {
    compile(&items(), Some(clause)).expect_err(clause)
}

#[test]
fn a_parameter_means_what_its_text_in_quotes_means() {
    let uuid = Some(UUID);
    for (clause, params, same) in [
        ("id = $1", &[Some("7")][..], "id = '7'"),
        ("id = $2 OR name = $1", &[Some("it's"), Some("7")], "id = 7 OR name = 'it''s'"),
        ("id = $1 OR -id = $1", &[Some("7")], "id = 7 OR -id = 7"),
        ("name = $1 OR \"Kind\" = $1", &[Some("a")], "name = 'a' OR \"Kind\" = 'a'"),
        ("id = $1::int4 OR count = $1", &[Some("7")], "id = '7'::int4 OR count = '7'"),
        ("$1 IS NULL OR id = $1", &[Some("7")], "'7' IS NULL OR id = '7'"),
        ("id = $1", &[None], "id = NULL"),
        ("name LIKE $1 AND id < $2", &[Some("a%"), Some("9")], "name LIKE 'a%' AND id < '9'"),
        ("uid IN ($1, $2)", &[uuid, None], "uid IN ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')"),
        ("id = ANY ($1)", &[Some("{1,2}")], "id = ANY ('{1,2}')"),
        ("id + $1::int8 > 5", &[Some("3")], "id + '3'::int8 > 5"),
    ] {
        let params: Vec<_> = params.iter().map(|value| value.map(Box::from)).collect();
        let compiled = compile_with(&items(), Some(clause), &params);
        assert_eq!(compiled, compile(&items(), Some(same)), "{clause}");
        assert!(compiled.is_ok(), "{clause}: {compiled:?}");
    }
}

#[test]
fn parameters_that_do_not_fit_their_clause_are_refused_with_their_place() {
    let refused = |clause: Option<&str>, params: &[&str]| {
        let params: Vec<_> = params.iter().map(|value| Some(Box::from(*value))).collect();
        compile_with(&items(), clause, &params).unwrap_err()
    };
    let at = |column| Position { line: 1, column };
    let unknown =
        |number, given, position| WhereError::UnknownParameter { number, given, position };
    assert_eq!(refused(Some("id = $1"), &[]), unknown(1, 0, at(6)));
    assert_eq!(refused(Some("id = $1 OR id = $3"), &["1", "2"]), unknown(3, 2, at(17)));
    assert_eq!(refused(Some("id = $0"), &["1"]), unknown(0, 1, at(6)));
    let unused = |number, position| WhereError::UnusedParameter { number, position };
    assert_eq!(refused(Some("id = $1"), &["1", "2"]), unused(2, at(8)));
    assert_eq!(refused(Some("id = $2"), &["1", "2"]), unused(1, at(8)));
    assert_eq!(refused(None, &["1"]), unused(1, at(1)));
    let error = refused(Some("name = $2 OR id = $1"), &["x", "y"]);
    let (type_name, text) = ("bigint".into(), "x".into());
    let expected = WhereError::InvalidParameter { number: 1, type_name, text, position: at(19) };
    assert_eq!(error, expected);
    for (clause, first, type_name, column) in [
        ("name = $1 OR id = $1", "text", "bigint", 19),
        ("id = $1 OR count = $1", "bigint", "integer", 20),
        ("price > $1 AND id = ANY ($1)", "numeric", "bigint[]", 26),
        ("$1 BETWEEN id AND price", "bigint", "numeric", 1),
        ("id = $1::int8 AND count = $1::int4", "bigint", "integer", 27),
    ] {
        let (type_name, first, position) = (type_name.into(), first.into(), at(column));
        let expected = WhereError::ParameterTypes { number: 1, type_name, first, position };
        assert_eq!(refused(Some(clause), &["7"]), expected, "{clause}");
        // Of which types it is, its value does not decide.
        let null = compile_with(&items(), Some(clause), &[None]);
        assert_eq!(null, Err(expected), "{clause}");
    }
    let long = "x".repeat(CLAUSE_BYTES_MAX);
    let too_long = refused(Some("name = $1"), &[&long]);
    assert!(matches!(too_long, WhereError::TooLong { bytes, .. } if bytes == long.len() + 9));
    // Where a quoted text would not do, a parameter does not.
    let syntax = |clause| matches!(refused(Some(clause), &["1"]), WhereError::Syntax { .. });
    assert!(syntax("id IS $1") && syntax("id = date $1"));
}

#[test]
fn what_is_not_supported_is_named_with_its_place() {
    for (clause, what, line, column) in [
        ("id = 1 OR\n  (flag = true AND id = (SELECT 2))", "a subquery", 2, 26),
        ("EXISTS (SELECT 1)", "a subquery", 1, 1),
        ("id IN (SELECT 1)", "a subquery", 1, 8),
        ("name = user", "the function USER", 1, 8),
        ("id = 1 AND now() > '2024-01-01'", "the function now()", 1, 12),
        ("id = 1 OR pg_catalog.lower(name) = 'a'", "the function pg_catalog.lower", 1, 11),
        ("md5(name) = 'x'", "the function md5(text)", 1, 1),
        ("id = 1_000", "a number that is not plain decimal digits", 1, 6),
        ("id = $1a", "a parameter that is not $1, $2 and so on", 1, 6),
        ("name = E'a'", "a literal that is not in plain single quotes", 1, 8),
        ("name = $$a$$", "a literal that is not in plain single quotes", 1, 8),
        ("name COLLATE \"C\" = 'a'", "COLLATE", 1, 6),
        ("name SIMILAR TO 'a'", "SIMILAR TO", 1, 6),
        ("id & 1 = 1", "the operator &", 1, 4),
        ("- id ^ 2 = 1", "the operator ^", 1, 6),
        ("(id, count) = (1, 2)", "a row of several values", 1, 4),
        ("id = 1::regclass", "the type regclass", 1, 9),
        ("name LIKE 'a\\'", "a pattern that ends with its escape character", 1, 11),
        ("name LIKE 'a' ESCAPE 'bc'", "an ESCAPE that is not one constant character", 1, 22),
        ("name ~ 'a(?=b)'", "(? in a regular expression", 1, 8),
        ("name ~ '(a)\\1'", "this escape in a regular expression", 1, 8),
        ("name ~ '[[:alpha:]]'", "this bracket expression", 1, 8),
        ("name ~ \"Kind\"", "a regular expression that is not constant", 1, 8),
    ] {
        let expected =
            WhereError::Unsupported { what: what.into(), position: Position { line, column } };
        assert_eq!(refused(clause), expected, "{clause}");
    }
}

#[test]
fn types_that_do_not_go_together_are_named_with_their_place() {
    for (clause, operation, column) in [
        ("name = 7", "text = integer", 1),
        ("id = 1 OR 7 = \"Kind\"", "integer = character varying", 11),
        ("flag = 1", "boolean = integer", 1),
        ("uid = 7", "uuid = integer", 1),
        ("id = true", "bigint = boolean", 1),
        ("id + name > 3", "bigint + text", 1),
        ("-name = 3", "- text", 1),
        ("id LIKE 'a'", "bigint LIKE", 1),
        ("lower(id) = 'a'", "implicit cast from bigint to text", 7),
        ("id = '2024-01-01'::date", "bigint = date", 1),
        ("CASE WHEN flag THEN id ELSE name END = 3", "CASE of bigint and text", 1),
        ("id = ANY (name)", "bigint = ANY (text)", 1),
        ("id::uuid = uid", "cast from bigint to uuid", 1),
    ] {
        let (operation, position) = (operation.into(), Position { line: 1, column });
        assert_eq!(refused(clause), WhereError::NoOperator { operation, position }, "{clause}");
    }
    for (clause, type_name, column) in [("id", "bigint", 1), ("flag AND name", "text", 10)] {
        let (type_name, position) = (type_name.into(), Position { line: 1, column });
        assert_eq!(refused(clause), WhereError::NotBoolean { type_name, position }, "{clause}");
    }
}

#[test]
fn what_does_not_fit_the_table_is_named_with_its_place() {
    let position = |column| Position { line: 1, column };
    let table = || "public.items".to_owned();
    let unknown = |column: &str, at| WhereError::UnknownColumn {
        column: column.into(),
        table: table(),
        position: position(at),
    };
    assert_eq!(refused("id = 1 OR Kind = 'x'"), unknown("kind", 11));
    assert_eq!(refused("1 = \"ID\""), unknown("ID", 5));
    for (clause, qualifier) in [
        ("other.id = 1", "other"),
        ("\"Items\".id = 1", "Items"),
        ("private.items.id = 1", "private.items"),
        ("db.public.items.id = 1", "db.public.items"),
    ] {
        let (qualifier, position) = (qualifier.into(), position(1));
        let expected = WhereError::ForeignTable { qualifier, table: table(), position };
        assert_eq!(refused(clause), expected, "{clause}");
    }
    let column = "point".to_owned();
    let expected = WhereError::UnsupportedType { column, type_oid: 600, position: position(11) };
    assert_eq!(refused("id = 1 OR point = '(1,2)'"), expected);
}

#[test]
fn a_constant_that_is_no_value_of_its_type_is_refused_as_by_postgres() {
    for (clause, type_name, text, at) in [
        ("id = 'x'", "bigint", "x", 6),
        ("id = '9223372036854775808'", "bigint", "9223372036854775808", 6),
        ("small = '32768'", "smallint", "32768", 9),
        ("count = ''", "integer", "", 9),
        ("flag = 'o'", "boolean", "o", 8),
        ("flag = ''", "boolean", "", 8),
        ("uid = 'x'", "uuid", "x", 7),
        ("price = '1,5'", "numeric", "1,5", 9),
        ("id = 1 OR id = ANY ('{1,a}')", "bigint[]", "{1,a}", 21),
        ("date '2023-02-29' < date '2024-01-01'", "date", "2023-02-29", 1),
    ] {
        let expected = WhereError::InvalidConstant {
            type_name: type_name.into(),
            text: text.into(),
            position: Position { line: 1, column: at },
        };
        assert_eq!(refused(clause), expected, "{clause}");
    }
    for (clause, message, column) in [
        ("id = 1 / 0", "division by zero", 6),
        ("id = 2147483647 + 1", "integer out of range", 6),
        ("id = '1'::int8 OR 1 % 0 = id", "division by zero", 19),
    ] {
        let (message, position) = (message.into(), Position { line: 1, column });
        assert_eq!(refused(clause), WhereError::ConstantError { message, position }, "{clause}");
    }
}

#[test]
fn the_sign_of_a_number_is_no_part_of_the_operator_before_it() {
    for (together, apart) in [
        ("id>-7", "id > -7"),
        ("id<-7", "id < -7"),
        ("id<>-7", "id <> -7"),
        ("id>=-+7", "id >= - + 7"),
        ("id<=+7", "id <= + 7"),
        ("id=-7", "id = -7"),
        ("id-+id*-7/-id+-7>+7", "id - + id * - 7 / - id + - 7 > + 7"),
    ] {
        let of = |clause: &str| compile(&items(), Some(clause)).unwrap();
        assert_eq!(of(together), of(apart), "{together}");
    }
    match refused("id = 1\nOR id>-name") {
        WhereError::NoOperator { position, .. } => {
            assert_eq!(position, Position { line: 2, column: 7 });
        }
        other => panic!("{other}"),
    }
    // These are other operators, and a comment.
    for clause in ["id = 1 || id >!- 7", "id >--7\n 7", "id @- 7"] {
        refused(clause);
    }
}

#[test]
fn text_that_is_no_expression_is_refused_with_its_place() {
    for (clause, line, column) in [
        ("", 1, 1),
        ("  ", 1, 3),
        ("id =", 1, 5),
        ("id = 1 OR", 1, 10),
        ("id = 1\nOR", 2, 3),
        ("id = 1; DROP TABLE items", 1, 7),
        ("id = 1 id", 1, 8),
        ("(id = 1", 1, 8),
        ("id = 1)", 1, 7),
        ("id = 'x", 1, 6),
        ("name = 'a' 'b'", 1, 12),
    ] {
        match refused(clause) {
            WhereError::Syntax { position, .. } => {
                assert_eq!(position, Position { line, column }, "{clause:?}");
            }
            other => panic!("{clause:?}: {other}"),
        }
    }
}

#[test]
fn a_clause_that_is_too_large_is_refused_before_it_costs_anything() {
    let clause = |terms: usize| vec!["id=1"; terms].join(" OR ");
    assert_eq!(terms(&clause(TERMS_MAX)), [Equality::new(0, Key::Int(1))]);
    let too_many = |column| {
        let position = Position { line: 1, column: column as u64 + 1 };
        WhereError::TooComplex { what: "terms", count_max: TERMS_MAX, position }
    };
    let length = "id=1 OR ".len();
    assert_eq!(refused(&clause(TERMS_MAX + 5)), too_many(length * TERMS_MAX));
    let others = clause(TERMS_MAX + 5).replacen("id=1", "id>1", 1);
    assert_eq!(refused(&others), too_many(length * TERMS_MAX));
    let list: Vec<String> = (0..TERMS_MAX).map(|number| number.to_string()).collect();
    let list = format!("id=1 OR id IN ({})", list.join(", "));
    assert_eq!(refused(&list), too_many(length));
    let position = Position { line: 1, column: (length * TOKENS_MAX / 4) as u64 + 1 };
    let (what, count_max) = ("words and signs", TOKENS_MAX);
    let too_long = WhereError::TooComplex { what, count_max, position };
    assert_eq!(refused(&clause(TOKENS_MAX / 4 + 1)), too_long);
    let padded = |bytes: usize| format!("id = 1{}", " ".repeat(bytes - 6));
    assert_eq!(terms(&padded(CLAUSE_BYTES_MAX)), [Equality::new(0, Key::Int(1))]);
    let bytes = CLAUSE_BYTES_MAX + 1;
    let too_long = WhereError::TooLong { bytes, bytes_max: CLAUSE_BYTES_MAX };
    assert_eq!(refused(&padded(bytes)), too_long);
}

#[test]
fn what_is_too_deep_is_named_with_its_place() {
    let brackets = |count: usize| format!("{}id = 1{}", "(".repeat(count), ")".repeat(count));
    assert_eq!(terms(&brackets(NESTING_MAX - 2)), [Equality::new(0, Key::Int(1))]);
    let (what, count_max) = ("levels of nesting", NESTING_MAX);
    let position = Position { line: 1, column: NESTING_MAX as u64 + 1 };
    let too_deep = WhereError::TooComplex { what, count_max, position };
    assert_eq!(refused(&brackets(NESTING_MAX)), too_deep);
}

#[test]
fn of_types_that_users_made_only_enums_and_arrays_of_them_are_known() {
    let columns = vec![
        Column::of_enum("mood", 16_500, false),
        Column::new("mail", 16_501, false),
        Column::of_enum_array("moods", 16_499, 16_500, false),
        Column::of_enum_array("sizes", 16_601, 16_602, false),
    ];
    let relation = Relation::new(7, TableName::new("public", "items"), columns);
    let compiled = |clause| compile(&relation, Some(clause));
    assert!(compiled("mood = 'ok' OR mood::text LIKE 'o%' OR mood IS NULL").is_ok());
    for clause in [
        "moods = '{ok,sad}' OR moods <> ARRAY[mood, 'ok'] OR moods IS DISTINCT FROM '{}'",
        "moods @> '{ok}' OR moods <@ ARRAY[mood] OR moods && '{ok,sad}'",
        "mood = ANY (moods) OR 'ok' = ANY (moods) OR 'ok' <> ALL (moods)",
        "moods[1] = mood OR moods[2] IN ('ok', 'sad') OR moods::text[] = ARRAY['ok']",
    ] {
        assert_eq!(compiled(clause).map(|_| ()), Ok(()), "{clause}");
    }
    for clause in ["moods = ARRAY['ok']", "moods = sizes", "mood = ANY (sizes)", "moods && sizes"] {
        let refused = compiled(clause);
        assert!(matches!(refused, Err(WhereError::NoOperator { .. })), "{clause}: {refused:?}");
    }
    let (column, position) = ("mail".to_owned(), Position { line: 1, column: 1 });
    let unknown = WhereError::UnsupportedType { column, type_oid: 16_501, position };
    for clause in ["mail = 'a'", "mail IS NULL", "mail::text = 'a'"] {
        assert_eq!(compiled(clause), Err(unknown.clone()), "{clause}");
    }
    let what = "an order of values of a user's type".to_owned();
    let refused = Err(WhereError::Unsupported { what, position });
    for clause in [
        "mood < 'ok'",
        "moods < '{ok}'",
        "'ok' < ALL (moods)",
        "moods BETWEEN '{ok}' AND '{sad}'",
        "LEAST(moods, '{ok}') = moods",
    ] {
        assert_eq!(compiled(clause), refused, "{clause}");
    }
}

#[test]
fn deep_trees_of_every_shape_are_refused_within_a_small_stack() {
    let deep = move || {
        let chain = |link: &str| format!("id{}", link.repeat(TOKENS_MAX / 2 - 1));
        for clause in [
            chain("=1"),
            chain(" AND a"),
            chain(" IS NULL"),
            chain("::int"),
            chain("+a"),
            chain("[1]"),
            chain(".a"),
        ] {
            refused(&clause);
        }
        for prefix in ["(", "- ", "NOT ", "CASE WHEN ", "a = (", "ARRAY[", "f(", "a IN ("] {
            refused(&prefix.repeat(4_000));
            refused(&format!("{}1", prefix.repeat(4_000)));
        }
        assert_eq!(
            terms(&format!("{}id=1{}", "(".repeat(20), ")".repeat(20))),
            [Equality::new(0, Key::Int(1))]
        );
    };
    // The default size of a thread's stack.
    std::thread::Builder::new().stack_size(2 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn a_row_is_matched_exactly_and_null_never() {
    let columns = vec![Column::new("id", 20, false), Column::new("name", 25, false)];
    let relation = Arc::new(Relation::new(1, TableName::new("public", "items"), columns));
    let matches = |clause, old: Option<[Value<'_>; 2]>, new: [Value<'_>; 2]| {
        let predicate = compile(&relation, clause).unwrap();
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        match old {
            Some(old) => builder.update(&relation, old, new).unwrap(),
            None => builder.insert(&relation, new).unwrap(),
        }
        let fragment = builder.commit(Lsn::new(2));
        let change = fragment.get(0).unwrap();
        predicate.matches(&RowView::new(FullRow::new(change.new_row().unwrap(), change.old_row())))
    };
    let (seven, x) = (Value::Text(b"7"), Value::Text(b"x"));
    let clause = Some("id = 7 OR name = 'x'");
    assert_eq!(matches(None, None, [Value::Null, Value::Null]), Ok(true));
    assert_eq!(matches(clause, None, [seven, Value::Null]), Ok(true));
    assert_eq!(matches(clause, None, [Value::Null, x]), Ok(true));
    assert_eq!(matches(clause, None, [Value::Null, Value::Null]), Ok(false));
    assert_eq!(matches(Some("id = NULL"), None, [Value::Null, x]), Ok(false));
    assert_eq!(matches(clause, Some([seven, x]), [Value::Null, Value::Unchanged]), Ok(true));
    let not_sent = Err(ValueError::NotSent { column: 1 }.into());
    assert_eq!(matches(clause, None, [Value::Null, Value::Unchanged]), not_sent);
    let expected = Scalar::Int8.plain();
    let invalid = Err(ValueError::Invalid { column: 0, expected }.into());
    assert_eq!(matches(clause, None, [x, x]), invalid);
}

#[test]
fn errors_say_what_and_where() {
    let error = refused(&format!("uid = '{UUID}' OR name = 7")).to_string();
    assert_eq!(
        error,
        "there is no text = integer (at line 1, column 49): cast an operand, or quote a constant"
    );
}
