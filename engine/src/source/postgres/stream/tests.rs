//! The stream beside a real server.

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::source::postgres::{PostgresConfig, PostgresSource, PublishedTables};
use crate::words::{Lsn, TableName};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const TABLE: &str = "CREATE TABLE items (id bigint PRIMARY KEY);
    ALTER TABLE items REPLICA IDENTITY FULL";

/// INV6. With it a slow disk would have the server believe that nobody is there.
#[test]
fn inv6_the_server_hears_from_us_while_the_floor_is_being_raised() {
    let cluster = Cluster::start(&[]).unwrap();
    cluster.sql(TABLE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = Engine::builder().directory(dir.path()).start().unwrap();
    let engine = Arc::new(engine);
    let mut config = PostgresConfig::new(cluster.conninfo());
    config.tables = PublishedTables::List(vec![TableName::new("public", "items")]);
    config.status_interval = Duration::from_millis(20);
    let _source = PostgresSource::start(Arc::clone(&engine), publisher, config).unwrap();
    let heard = || cluster.sql("SELECT reply_time FROM pg_stat_replication").unwrap();
    engine.while_no_floor_rises(|| {
        let before = engine.flushed_lsn();
        cluster.sql("INSERT INTO items VALUES (1)").unwrap();
        engine.wait_flushed(Lsn::new(before.as_u64() + 1), LONG).unwrap();
        // From the second on, they go out when the raise has begun.
        for update in 0..5 {
            let (last, until) = (heard(), Instant::now() + LONG);
            while heard() == last {
                assert!(Instant::now() < until, "after {update} status updates, silence");
            }
        }
    });
}
