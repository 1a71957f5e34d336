//! throwaway
use super::super::*;
use super::file::*;
use crate::words::*;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::Instant;

fn frag(rel: &Arc<Relation>, lsn: u64, v: &[u8]) -> Fragment {
    let mut b = TransactionBuilder::new(7, Lsn::new(lsn));
    b.insert(rel, [Value::Text(b"123456"), Value::Text(&v[..96]), Value::Text(&v[96..])]).unwrap();
    b.commit(Lsn::new(lsn + 0x30))
}
fn routed(id: u64, slots: &Arc<RoaringBitmap>) -> Vec<Routed> {
    let as_is = Targets {
        sets: [SharedSet { id, slots: slots.clone() }].into_iter().collect(),
        slots: Default::default(),
    };
    vec![Routed { change: 0, as_is, ..Default::default() }]
}
#[test]
#[ignore]
fn speed() {
    let c = |n: &str| Column::new(n, 25, false);
    let rel = Arc::new(Relation::new(
        1,
        TableName::new("public", "items"),
        vec![c("id"), c("kind"), c("body")],
    ));
    let v = vec![b'x'; 194];
    for file in [false, true] {
        let folder = Folder::new();
        let (mut e, mut s, log) = if file {
            reopen(&folder, BLOCK_BYTES_MAX).parts()
        } else {
            in_memory(BLOCK_BYTES_MAX)
        };
        let set: Arc<RoaringBitmap> = Arc::new((0..150_000).collect());
        let n = 200_000u64;
        let mut spare = Vec::new();
        let r = routed(1, &set);
        let frags: Vec<_> = (0..n).map(|i| frag(&rel, 0x16_0000_0000 + i * 100, &v)).collect();
        let mut enc = std::time::Duration::ZERO;
        let mut syn = enc;
        for chunk in frags.chunks(500) {
            let t = Instant::now();
            for f in chunk {
                e.fragment(f, &r).unwrap();
            }
            let b = e.take(std::mem::take(&mut spare));
            enc += t.elapsed();
            let t = Instant::now();
            s.commit(&b).unwrap();
            syn += t.elapsed();
            spare = b.into_buffer();
        }
        let bytes = log.bytes();
        println!(
            "file={file} encode known set: {} ns/change, {} B/change, sync {:?}/batch of 500",
            enc.as_nanos() as u64 / n,
            bytes / n,
            syn / (n as u32 / 500)
        );
        let t = Instant::now();
        let (mut at, mut k, mut chunks) = (log.start(), 0, 0);
        while let Some(c) = log.read(at).unwrap() {
            k += c.entries.len();
            at = c.through;
            chunks += 1;
        }
        let d = t.elapsed();
        println!(
            "read {k} in {chunks} chunks: {:.0} MB/s, {} ns/entry",
            bytes as f64 / 1e6 / d.as_secs_f64(),
            d.as_nanos() as u64 / k as u64
        );
        // follow the tail
        let t = Instant::now();
        let m = 20_000u64;
        let mut d = std::time::Duration::ZERO;
        if !file {
            for i in 0..m {
                e.fragment(&frag(&rel, 0x17_0000_0000 + i * 100, &v), &r).unwrap();
                let b = e.take(std::mem::take(&mut spare));
                s.commit(&b).unwrap();
                spare = b.into_buffer();
                let t = Instant::now();
                let c = log.read(at).unwrap().unwrap();
                at = c.through;
                d += t.elapsed();
            }
            println!("tail read: {} ns each (all {:?})", d.as_nanos() as u64 / m, t.elapsed());
        }
        if file {
            drop((e, s, log));
            let t = Instant::now();
            let f = reopen(&folder, BLOCK_BYTES_MAX);
            println!(
                "recover {} MB/s {}",
                (bytes as f64 / 1e6 / t.elapsed().as_secs_f64()) as u64,
                f.last_commit
            );
        }
    }
    // scattered: random half of 300k each time, new id and state each
    let mut x = 88172645463325252u64;
    let mut rnd = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let sets: Vec<Arc<RoaringBitmap>> =
        (0..64).map(|_| Arc::new((0..300_000).filter(|_| rnd() & 1 == 0).collect())).collect();
    for (name, tags) in [("64 tags in turn, set ids known", true), ("a new set each", false)] {
        let (mut e, mut s, log) = in_memory(BLOCK_BYTES_MAX);
        let n = 4000u64;
        let mut spare = Vec::new();
        let mut enc = std::time::Duration::ZERO;
        for i in 0..n {
            let f = frag(&rel, 0x16_0000_0000 + i * 100, &v);
            let set = &sets[(i % 64) as usize];
            let r = routed(if tags { i % 64 } else { i }, set);
            let t = Instant::now();
            e.fragment(&f, &r).unwrap();
            enc += t.elapsed();
            if e.len() > 200_000 {
                let t = Instant::now();
                let b = e.take(std::mem::take(&mut spare));
                enc += t.elapsed();
                s.commit(&b).unwrap();
                spare = b.into_buffer();
            }
        }
        let b = e.take(spare);
        s.commit(&b).unwrap();
        let bytes = log.bytes();
        println!(
            "random half, {name}: {} ns/change, {} B/change",
            enc.as_nanos() as u64 / n,
            bytes / n
        );
        let t = Instant::now();
        let (mut at, mut k) = (log.start(), 0);
        while let Some(c) = log.read(at).unwrap() {
            k += c.entries.len();
            at = c.through;
        }
        println!("read {k}: {:.0} MB/s", bytes as f64 / 1e6 / t.elapsed().as_secs_f64());
    }
}
