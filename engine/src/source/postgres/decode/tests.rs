//! The decoder against another one, written by other people: pg_walstream's parser. Every message
//! that both take must mean the same; whatever ours takes, theirs takes; no bytes panic.

use super::*;
use crate::words::Value;
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Theirs, LogicalReplicationParser,
    TupleData, encode_message_to_bytes,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn theirs(bytes: &[u8]) -> Option<Theirs> {
    let mut parser = LogicalReplicationParser::with_protocol_version(1);
    parser.parse_wal_message(bytes).ok().map(|parsed| parsed.message)
}

fn name() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,12}"
}

fn tuples() -> impl Strategy<Value = TupleData> {
    let value = prop_oneof![
        Just(ColumnData::null()),
        Just(ColumnData::unchanged()),
        vec(any::<u8>(), 0..40).prop_map(ColumnData::text),
    ];
    vec(value, 0..20).prop_map(TupleData::new)
}

fn relations() -> impl Strategy<Value = Theirs> {
    let column = (any::<u8>(), name(), any::<u32>(), any::<i32>())
        .prop_map(|(flags, name, oid, modifier)| ColumnInfo::new(flags, name, oid, modifier));
    (any::<u32>(), name(), name(), vec(column, 0..9)).prop_map(|(oid, schema, table, columns)| {
        Theirs::Relation {
            relation_id: oid,
            namespace: schema.into(),
            relation_name: table.into(),
            replica_identity: b'f',
            columns,
        }
    })
}

fn changes() -> impl Strategy<Value = Theirs> {
    let kind = prop_oneof![Just('K'), Just('O')];
    let old = proptest::option::of((kind.clone(), tuples()));
    prop_oneof![
        (any::<u32>(), tuples())
            .prop_map(|(relation_id, tuple)| Theirs::Insert { relation_id, tuple }),
        (any::<u32>(), old, tuples()).prop_map(|(relation_id, old, new_tuple)| {
            let (key_type, old_tuple) = old.unzip();
            Theirs::Update { relation_id, old_tuple, new_tuple, key_type }
        }),
        (any::<u32>(), kind, tuples()).prop_map(|(relation_id, key_type, old_tuple)| {
            Theirs::Delete { relation_id, old_tuple, key_type }
        }),
        (vec(any::<u32>(), 0..9), any::<u8>())
            .prop_map(|(relation_ids, flags)| Theirs::Truncate { relation_ids, flags }),
    ]
}

fn messages() -> impl Strategy<Value = Theirs> {
    prop_oneof![
        (any::<u64>(), any::<i64>(), any::<u32>())
            .prop_map(|(final_lsn, timestamp, xid)| Theirs::Begin { final_lsn, timestamp, xid }),
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(commit_lsn, end_lsn, timestamp)| {
            Theirs::Commit { flags: 0, commit_lsn, end_lsn, timestamp }
        }),
        (any::<u64>(), name())
            .prop_map(|(origin_lsn, origin_name)| Theirs::Origin { origin_lsn, origin_name }),
        (any::<u32>(), name(), name()).prop_map(|(type_id, namespace, type_name)| {
            Theirs::Type { type_id, namespace, type_name }
        }),
        relations(),
        changes(),
        changes(),
    ]
}

fn same_row(ours: &Tuple<'_>, theirs: &TupleData) -> bool {
    let same = |(ours, theirs): (Value<'_>, &ColumnData)| match ours {
        Value::Null => theirs.is_null(),
        Value::Unchanged => theirs.is_unchanged(),
        Value::Text(text) => theirs.is_text() && theirs.as_bytes() == text,
    };
    ours.len() == theirs.columns.len()
        && ours.values().count() == theirs.columns.len()
        && ours.values().zip(&theirs.columns).all(same)
}

fn same_old(ours: &OldTuple<'_>, kind: char, theirs: &TupleData) -> bool {
    match ours {
        OldTuple::Key(row) => kind == 'K' && same_row(row, theirs),
        OldTuple::Full(row) => kind == 'O' && same_row(row, theirs),
    }
}

fn same_relation(ours: &RelationMessage<'_>, theirs: &Theirs) -> bool {
    let Theirs::Relation { relation_id, namespace, relation_name, columns, .. } = theirs else {
        return false;
    };
    let schema = if namespace.is_empty() { "pg_catalog" } else { namespace };
    ours.oid == *relation_id
        && ours.schema == schema
        && ours.name == &**relation_name
        && ours.columns.len() == columns.len()
        && ours
            .columns
            .iter()
            .zip(columns)
            .all(|(a, b)| a.name == &*b.name && a.type_oid == b.type_id)
}

/// Whether two decoders understood the same.
fn same(ours: &Message<'_>, theirs: &Theirs) -> bool {
    match (ours, theirs) {
        (Message::Begin { commit_lsn, xid }, Theirs::Begin { final_lsn, xid: x, .. }) => {
            commit_lsn.as_u64() == *final_lsn && xid == x
        }
        (
            Message::Commit { commit_lsn, end_lsn },
            Theirs::Commit { commit_lsn: c, end_lsn: e, .. },
        ) => commit_lsn.as_u64() == *c && end_lsn.as_u64() == *e,
        (Message::Origin { name }, Theirs::Origin { origin_name, .. }) => name == origin_name,
        (Message::Type { oid }, Theirs::Type { type_id, .. }) => oid == type_id,
        (Message::Relation(ours), theirs) => same_relation(ours, theirs),
        (Message::Insert { relation, new }, Theirs::Insert { relation_id, tuple }) => {
            relation == relation_id && same_row(new, tuple)
        }
        (
            Message::Update { relation, old, new },
            Theirs::Update { relation_id, old_tuple, new_tuple, key_type },
        ) => {
            let old = match (old, key_type, old_tuple) {
                (None, None, None) => true,
                (Some(ours), Some(kind), Some(theirs)) => same_old(ours, *kind, theirs),
                _ => false,
            };
            relation == relation_id && old && same_row(new, new_tuple)
        }
        (
            Message::Delete { relation, old },
            Theirs::Delete { relation_id, old_tuple, key_type },
        ) => relation == relation_id && same_old(old, *key_type, old_tuple),
        (Message::Truncate { relations }, Theirs::Truncate { relation_ids, .. }) => {
            relations.iter().eq(relation_ids.iter().copied())
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn both_decoders_understand_the_same(sent in messages()) {
        let bytes = encode_message_to_bytes(&sent, 1);
        let ours = decode(&bytes).unwrap();
        prop_assert!(same(&ours, &sent), "{:?} is not what was sent: {:?}", ours, sent);
        prop_assert!(same(&ours, &theirs(&bytes).unwrap()));
    }

    /// A cut message is never taken for a whole one, and neither is one that goes on.
    #[test]
    fn a_message_has_exactly_one_length(sent in messages(), cut: prop::sample::Index, more: u8) {
        let mut bytes = encode_message_to_bytes(&sent, 1).to_vec();
        let cut = cut.index(bytes.len());
        prop_assert!(decode(&bytes[..cut]).is_err());
        bytes.push(more);
        prop_assert_eq!(decode(&bytes), Err(DecodeError::TrailingBytes { count: 1 }));
    }

    #[test]
    fn what_ours_takes_of_damaged_bytes_theirs_takes_too(
        sent in messages(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode_message_to_bytes(&sent, 1).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(ours) = decode(&bytes) {
            let theirs = theirs(&bytes);
            prop_assert!(theirs.as_ref().is_some_and(|theirs| same(&ours, theirs)),
                "{:?} against {:?}", ours, theirs);
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, tag in "[BCORYIUDTMS]") {
        let _ = decode(&bytes);
        let tagged: Vec<u8> = tag.bytes().chain(bytes).collect();
        if let Ok(Message::Insert { new, .. }) = decode(&tagged) {
            prop_assert_eq!(new.values().count(), new.len());
        }
    }
}

#[test]
fn errors_say_what_was_wrong() {
    let binary = [b'I', 0, 0, 0, 1, b'N', 0, 1, b'b', 0, 0, 0, 0];
    assert_eq!(decode(&binary), Err(DecodeError::UnknownValue { kind: 'b' }));
    assert_eq!(decode(b"S"), Err(DecodeError::UnknownMessage { tag: 'S' }));
    assert_eq!(decode(b""), Err(DecodeError::Truncated { field: "kind", at: 0 }));
    let no_utf8 = [b'Y', 0, 0, 0, 1, 0xFF, 0, b'x', 0];
    assert_eq!(decode(&no_utf8), Err(DecodeError::NotUtf8 { field: "type schema" }));
    let old = [b'D', 0, 0, 0, 1, b'Q', 0, 0];
    assert_eq!(decode(&old), Err(DecodeError::UnknownTuple { kind: 'Q' }));
}
