//! Refusals: what keeps the source from starting is said plainly, with what to do.

use crate::cluster::Cluster;
use crate::world::{cluster, config, items};
use std::sync::Arc;
use walfan::{
    Ack, AddError, ConsumerError, ConsumerSpec, Engine, PostgresConfig, PostgresError,
    PostgresSource, PublishedTables, Start, Started, TableName,
};

/// Starts an engine and a source; the source's error.
fn refused(config: PostgresConfig) -> PostgresError {
    let directory = tempfile::tempdir().unwrap();
    let (engine, publisher) =
        Engine::builder().shards(1).directory(directory.path()).start().unwrap();
    PostgresSource::start(Arc::new(engine), publisher, config).unwrap_err()
}

#[test]
fn a_server_without_logical_wal_is_refused() {
    let cluster = cluster(&["wal_level=replica"]);
    let error = refused(config(&cluster));
    assert!(matches!(&error, PostgresError::WalLevel { found } if found == "replica"));
    assert!(error.to_string().contains("set it in postgresql.conf"), "{error}");
}

#[test]
fn a_role_without_rights_is_told_which() {
    let cluster = cluster(&[]);
    cluster.sql("CREATE ROLE reader LOGIN").unwrap();
    let mut config = config(&cluster);
    config.conninfo = cluster.conninfo_of("reader");
    let error = refused(config.clone());
    assert!(matches!(&error, PostgresError::Rights { .. }), "{error}");
    assert!(error.to_string().contains(r#"ALTER ROLE "reader" REPLICATION"#), "{error}");
    cluster.sql("ALTER ROLE reader REPLICATION").unwrap();
    let error = refused(config.clone());
    let creating = |action: &str| action == "create the publication";
    assert!(matches!(&error, PostgresError::Rights { action, .. } if creating(action)), "{error}");
    // Nothing was left behind, and somebody else may create it.
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    cluster.sql("CREATE PUBLICATION walfan FOR TABLE items").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (engine, publisher) = Engine::builder().directory(directory.path()).start().unwrap();
    let source = PostgresSource::start(Arc::new(engine), publisher, config).unwrap();
    source.stop().unwrap();
}

#[test]
fn tables_without_whole_old_rows_are_named() {
    let cluster = cluster(&[]);
    cluster
        .sql(r#"ALTER TABLE items REPLICA IDENTITY DEFAULT; CREATE TABLE "Odd" (a int)"#)
        .unwrap();
    let error = refused(config(&cluster)).to_string();
    assert!(error.contains(r#"ALTER TABLE "public"."items" REPLICA IDENTITY FULL"#), "{error}");
    cluster.sql("DROP PUBLICATION walfan").unwrap();
    let config = PostgresConfig { tables: PublishedTables::All, ..config(&cluster) };
    let error = refused(config);
    assert!(matches!(&error, PostgresError::NotFull { count: 3, .. }), "{error}");
    assert!(error.to_string().contains(r#""public"."Odd""#), "{error}");
}

/// A table that loses it while the source runs ends the source, with the table's name.
#[test]
fn a_table_that_loses_it_is_named_too() {
    let world = crate::world::World::new();
    world.sql("INSERT INTO items VALUES (1, 'a', 'b')");
    world.sql("ALTER TABLE items REPLICA IDENTITY DEFAULT; UPDATE items SET kind = 'c'");
    crate::world::wait_until("the end", || world.status().state == walfan::PostgresState::Failed);
    let error = world.status().last_error.unwrap();
    assert!(matches!(&error, PostgresError::Assemble(_)), "{error}");
    assert!(error.to_string().contains(r#"ALTER TABLE "public"."items""#), "{error}");
}

#[test]
fn tables_slots_and_servers_that_do_not_fit_are_named() {
    let cluster = cluster(&[]);
    cluster.sql("CREATE PUBLICATION walfan FOR TABLE other").unwrap();
    let error = refused(config(&cluster)).to_string();
    assert!(error.contains(r#"ADD TABLE "public"."items""#), "{error}");
    cluster.sql("DROP PUBLICATION walfan").unwrap();
    cluster.sql("SELECT pg_create_logical_replication_slot('walfan', 'test_decoding')").unwrap();
    let error = refused(config(&cluster));
    assert!(matches!(&error, PostgresError::Slot { .. }), "{error}");
    let absent = TableName::new("public", "absent");
    let mut config = config(&cluster);
    config.publication = "another".into();
    config.tables = PublishedTables::List(vec![absent]);
    assert!(refused(config.clone()).to_string().contains("absent"));
    config.conninfo = "host=/nowhere dbname=x".into();
    assert!(matches!(refused(config), PostgresError::Connect { transient: true, .. }));
}

/// R14: with the memory store, what is logged is not durable.
#[test]
fn r14_a_log_in_memory_may_not_acknowledge() {
    let cluster = cluster(&[]);
    let consumer = |ack| {
        let factory = |_: &Start<'_>| -> Result<Started, ConsumerError> { Err("never".into()) };
        ConsumerSpec::Mailbox { factory: Arc::new(factory), ack }
    };
    let relation = |cluster: &Cluster| {
        let oid = cluster.sql("SELECT 'items'::regclass::oid").unwrap().parse().unwrap();
        let columns = vec![
            walfan::Column::new("id", 20, true),
            walfan::Column::new("kind", 25, false),
            walfan::Column::new("note", 25, false),
        ];
        Arc::new(walfan::Relation::new(oid, TableName::new("public", "items"), columns))
    };
    let (engine, publisher) = Engine::builder().shards(1).start().unwrap();
    engine.learn(relation(&cluster));
    let handle = engine.add_shape(items(""), ConsumerSpec::Log).unwrap();
    let error = PostgresSource::start(Arc::new(engine), publisher, config(&cluster)).unwrap_err();
    assert!(matches!(error, PostgresError::NotDurable { handle: found } if found == handle));

    let (engine, publisher) = Engine::builder().shards(1).start().unwrap();
    let engine = Arc::new(engine);
    let source = PostgresSource::start(Arc::clone(&engine), publisher, config(&cluster)).unwrap();
    for spec in [ConsumerSpec::Log, consumer(Ack::Log)] {
        let error = engine.add_shape(items(""), spec).unwrap_err();
        assert!(matches!(error, AddError::NotDurable { .. }), "{error}");
    }
    engine.add_shape(items("id = 5"), consumer(Ack::Consumer)).unwrap();
    source.stop().unwrap();
}
