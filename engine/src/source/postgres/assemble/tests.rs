//! What the assembler makes of messages, and of messages that make no sense.

use super::*;
use crate::source::postgres::decode::decode;
use crate::words::{Operation, Value};
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Sent, TupleData, encode_message_to_bytes,
};

const ITEMS: u32 = 7;
/// The type of notes, an array of an enum.
const MOODS: u32 = 16_499;

fn announce(oid: u32, name: &str) -> Sent {
    let column = |flags, name: &str, oid| ColumnInfo::new(flags, name.into(), oid, -1);
    Sent::Relation {
        relation_id: oid,
        namespace: "public".into(),
        relation_name: name.into(),
        replica_identity: b'f',
        columns: vec![column(1, "id", 20), column(1, "note", MOODS)],
    }
}

fn tuple(values: [Option<&str>; 2]) -> TupleData {
    let value =
        |value: Option<&str>| value.map_or(ColumnData::null(), |v| ColumnData::text(v.into()));
    TupleData::new(values.map(value).into())
}

fn begin(commit: u64) -> Sent {
    Sent::Begin { final_lsn: commit, timestamp: 0, xid: 5 }
}

fn commit(commit: u64) -> Sent {
    Sent::Commit { flags: 0, commit_lsn: commit, end_lsn: commit + 8, timestamp: 0 }
}

fn insert(oid: u32) -> Sent {
    Sent::Insert { relation_id: oid, tuple: tuple([Some("1"), None]) }
}

#[derive(Default)]
struct World {
    assembler: Assembler,
    out: VecDeque<Assembled>,
}

impl World {
    fn with_limit(changes_max: usize) -> World {
        let limits = FragmentLimits { changes_max, bytes_max: 1 << 20 };
        World { assembler: Assembler::new(limits), out: VecDeque::new() }
    }

    fn send(&mut self, message: Sent) -> Result<(), AssembleError> {
        let bytes = encode_message_to_bytes(&message, 1);
        self.assembler.take(decode(&bytes).unwrap(), &mut self.out)
    }

    fn fragments(&mut self) -> Vec<Arc<Fragment>> {
        let fragment = |assembled| match assembled {
            Assembled::Fragment(fragment) => Some(fragment),
            _ => None,
        };
        self.out.drain(..).filter_map(fragment).collect()
    }
}

#[test]
fn a_transaction_becomes_fragments_with_every_operation() {
    let mut world = World::with_limit(2);
    world.send(begin(100)).unwrap();
    world.send(announce(ITEMS, "items")).unwrap();
    world.send(insert(ITEMS)).unwrap();
    let (old, new) = (tuple([Some("1"), None]), tuple([Some("1"), Some("x")]));
    let (old_tuple, new_tuple) = (Some(old.clone()), new);
    let update = Sent::Update { relation_id: ITEMS, old_tuple, new_tuple, key_type: Some('O') };
    world.send(update).unwrap();
    world.send(Sent::Delete { relation_id: ITEMS, old_tuple: old, key_type: 'O' }).unwrap();
    world.send(Sent::Truncate { relation_ids: vec![ITEMS], flags: 0 }).unwrap();
    world.send(commit(100)).unwrap();
    let fragments = world.fragments();
    assert_eq!(fragments.len(), 2);
    assert!(fragments[0].begins() && !fragments[0].commits());
    assert_eq!(fragments[1].end_lsn(), Some(Lsn::new(108)));
    let changes: Vec<_> = fragments.iter().flat_map(|fragment| fragment.changes()).collect();
    let operations: Vec<_> = changes.iter().map(|change| change.operation()).collect();
    use Operation::{Delete, Insert, Truncate, Update};
    assert_eq!(operations, [Insert, Update, Delete, Truncate]);
    let new: Vec<_> = changes[1].new_row().unwrap().values().collect();
    assert_eq!(new, [Value::Text(b"1"), Value::Text(b"x")]);
    assert_eq!(changes[2].old_row().unwrap().get(1), Some(Value::Null));
}

#[test]
fn the_catalog_s_key_and_enums_are_kept_and_an_unchanged_table_keeps_its_pointer() {
    let note = Column::of_enum_array("note", MOODS, 16_500, false);
    let columns = vec![Column::new("id", 20, true), note];
    let learnt = Arc::new(Relation::new(ITEMS, TableName::new("public", "items"), columns));
    let mut world = World::with_limit(100);
    world.assembler.learn(Arc::clone(&learnt));
    for commit_lsn in [100, 200] {
        world.assembler.connected();
        world.send(begin(commit_lsn)).unwrap();
        world.send(announce(ITEMS, "items")).unwrap();
        world.send(insert(ITEMS)).unwrap();
        world.send(commit(commit_lsn)).unwrap();
        let told = world.out.iter().find_map(|made| match made {
            Assembled::Relation(relation) => Some(Arc::clone(relation)),
            _ => None,
        });
        assert!(Arc::ptr_eq(&told.unwrap(), &learnt));
        let fragment = world.fragments().remove(0);
        assert!(Arc::ptr_eq(fragment.get(0).unwrap().relation(), &learnt));
    }
    world.send(announce(ITEMS, "renamed")).unwrap();
    let Some(Assembled::Relation(renamed)) = world.out.pop_front() else { panic!("no relation") };
    assert_eq!(&*renamed.table.name, "renamed");
    assert_eq!(renamed.columns, learnt.columns);
}

/// Who is added once the new form is known comes after all rows in the old one (C18).
#[test]
fn c18_a_table_s_new_form_stands_between_the_rows_in_the_old_one_and_in_the_new_one() {
    let mut world = World::with_limit(100);
    world.send(begin(100)).unwrap();
    for name in ["items", "items", "renamed"] {
        world.send(announce(ITEMS, name)).unwrap();
        world.send(insert(ITEMS)).unwrap();
    }
    world.send(commit(100)).unwrap();
    let made = world.out.iter().map(|made| match made {
        Assembled::Begin => "begin".to_owned(),
        Assembled::Relation(relation) => relation.table.name.to_string(),
        Assembled::Fragment(fragment) => format!("{} rows", fragment.len()),
    });
    let made: Vec<_> = made.collect();
    assert_eq!(made, ["begin", "items", "items", "2 rows", "renamed", "1 rows"]);
}

#[test]
fn an_update_without_the_old_row_names_the_table_and_the_way_out() {
    let mut world = World::with_limit(100);
    world.send(begin(100)).unwrap();
    world.send(announce(ITEMS, "items")).unwrap();
    let new_tuple = tuple([Some("1"), None]);
    let update = Sent::Update { relation_id: ITEMS, old_tuple: None, new_tuple, key_type: None };
    let error = world.send(update).unwrap_err();
    assert_eq!(error, AssembleError::NotFull { table: r#""public"."items""#.into() });
    assert!(error.to_string().contains(r#"ALTER TABLE "public"."items" REPLICA IDENTITY FULL"#));
    let old_tuple = tuple([Some("1"), None]);
    let delete = Sent::Delete { relation_id: ITEMS, old_tuple, key_type: 'K' };
    assert!(matches!(world.send(delete), Err(AssembleError::NotFull { .. })));
}

#[test]
fn an_unchanged_large_value_stays_marked_as_such() {
    let mut world = World::with_limit(100);
    world.send(begin(100)).unwrap();
    world.send(announce(ITEMS, "items")).unwrap();
    let new_tuple = TupleData::new(vec![ColumnData::text("2".into()), ColumnData::unchanged()]);
    let old_tuple = Some(tuple([Some("1"), Some("large")]));
    let update = Sent::Update { relation_id: ITEMS, old_tuple, new_tuple, key_type: Some('O') };
    world.send(update).unwrap();
    world.send(commit(100)).unwrap();
    let fragment = world.fragments().remove(0);
    let new: Vec<_> = fragment.get(0).unwrap().new_row().unwrap().values().collect();
    assert_eq!(new, [Value::Text(b"2"), Value::Unchanged]);
}

#[test]
fn messages_out_of_place_are_refused() {
    let mut world = World::with_limit(100);
    assert!(matches!(world.send(commit(1)), Err(AssembleError::NoTransaction { .. })));
    assert!(matches!(world.send(insert(ITEMS)), Err(AssembleError::NoTransaction { .. })));
    world.send(begin(100)).unwrap();
    assert_eq!(world.send(insert(ITEMS)), Err(AssembleError::UnknownRelation { oid: ITEMS }));
    assert!(matches!(world.send(begin(200)), Err(AssembleError::NestedBegin { .. })));
    let wrong = AssembleError::WrongCommit { expected: Lsn::new(100), found: Lsn::new(200) };
    assert_eq!(world.send(commit(200)), Err(wrong));
    world.send(begin(300)).unwrap();
    world.send(announce(ITEMS, "items")).unwrap();
    let short = TupleData::new(vec![ColumnData::null()]);
    let error = world.send(Sent::Insert { relation_id: ITEMS, tuple: short }).unwrap_err();
    assert!(matches!(error, AssembleError::Row(_)), "{error}");
}
