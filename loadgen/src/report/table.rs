//! Table: the report for a terminal, and the rows of the page.

use super::document::{PostgresReport, Report};
use crate::latency::Summary;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A part of the table: its name, and what each figure is and says.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<(&'static str, String)>,
}

/// The report as a table for the terminal.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Disabled);
    for section in sections(report) {
        for (index, (what, value)) in section.rows.into_iter().enumerate() {
            let name = if index == 0 { section.name } else { "" };
            table.add_row(vec![name.to_owned(), what.to_owned(), value]);
        }
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// All figures, in words.
pub(crate) fn sections(report: &Report) -> Vec<Section> {
    let mut sections = vec![run(report), throughput(report), latency(report), flush(report)];
    if report.faults.killed > 0 {
        sections.push(faults(report));
    }
    sections.push(memory_and_log(report));
    sections.extend(report.postgres.as_ref().map(postgres));
    sections.push(verified(report));
    sections
}

fn run(report: &Report) -> Section {
    let config = &report.config;
    let durable = if report.store.durable { "durable" } else { "NOT durable" };
    let consumers = format!("{:?}, ack {:?}", config.consumers, config.ack).to_lowercase();
    let rate = match config.rate {
        crate::cli::Rate::Max => format!("max, {} in flight", config.window),
        crate::cli::Rate::PerSecond(rate) => format!("{} txns/s, open loop", short(rate)),
    };
    let dirty = if report.dirty { ", changed since" } else { "" };
    let commit = report.commit.get(..12).unwrap_or(&report.commit);
    Section {
        name: "run",
        rows: vec![
            ("scenario", report.scenario.to_owned()),
            ("shapes", grouped(config.shapes.into())),
            ("adding them", format!("{:.1} s", report.setup_s)),
            ("shards, runners", format!("{}, {}", config.shards, config.runners)),
            ("consumers", consumers),
            ("rate", rate),
            ("store", format!("{durable}, {}", report.store.filesystem)),
            ("machine", format!("{}, {} cores", report.host.cpu, report.host.cores)),
            ("commit", format!("{commit}{dirty}")),
        ],
    }
}

fn throughput(report: &Report) -> Section {
    let throughput = &report.throughput;
    let mut rows = vec![
        ("transactions/s", short(throughput.txns_per_s)),
        ("changes/s", short(throughput.changes_per_s)),
        (
            if throughput.deliveries == "logged" {
                "logged deliveries/s"
            } else {
                "handled deliveries/s"
            },
            short(throughput.deliveries_per_s),
        ),
    ];
    if let Some(baseline) = &report.baseline {
        rows.push(("bare crossbeam/s", short(baseline.crossbeam_deliveries_per_s)));
        rows.push(("ratio to crossbeam", format!("{:.2}", baseline.ratio)));
    }
    if let Some(mailbox) = &report.mailbox {
        let per_s = mailbox.throughput.deliveries_per_s;
        rows.push(("mailboxes beside it, handled/s", short(per_s)));
    }
    Section { name: "throughput", rows }
}

fn latency(report: &Report) -> Section {
    let line = |summary: &Option<Summary>| match summary {
        None => "-".to_owned(),
        Some(s) => {
            let values = [s.p50, s.p90, s.p99, s.p999, s.max].map(ms);
            values.join(" / ")
        }
    };
    let latencies = &report.latency_us;
    if !matches!(report.config.rate, crate::cli::Rate::PerSecond(_)) {
        return Section { name: "latency", rows: vec![("", "not measured at rate max".into())] };
    }
    Section {
        name: "latency, ms",
        rows: vec![
            ("", "p50 / p90 / p99 / p99.9 / max".into()),
            ("publish to flushed", line(&latencies.publish_to_flushed)),
            ("publish to delivered", line(&latencies.publish_to_delivered)),
        ],
    }
}

fn flush(report: &Report) -> Section {
    let flush = &report.flush;
    Section {
        name: "flushed LSN",
        rows: vec![
            ("longest without a move", format!("{:.1} ms", flush.stalled_ms_max)),
            ("an idle timer's longest hiccup", format!("{:.1} ms", flush.hiccup_ms_max)),
            ("greatest lag", format!("{:.1} ms", flush.lag_ms_max)),
        ],
    }
}

fn faults(report: &Report) -> Section {
    let faults = &report.faults;
    let mut rows = vec![("consumers killed", grouped(faults.killed))];
    for (kind, count) in &faults.by_kind {
        let what = match *kind {
            "handler" => "  in the handler",
            "factory" => "  and once more in the factory",
            "mid_transaction" => "  in mid-transaction",
            _ => "  with mail queued, a flush unreported",
        };
        rows.push((what, grouped(*count)));
    }
    rows.push(("restarted", grouped(faults.restarted)));
    rows.push(("sends that found a dead consumer", grouped(faults.retried)));
    rows.push(("deliveries repeated", grouped(faults.repeated)));
    rows.push(("undeliverable", grouped(faults.undeliverable)));
    if let Some(recovery) = &faults.recovery_us {
        let values = [recovery.p50, recovery.p99, recovery.max].map(ms);
        rows.push(("death to next report, p50 / p99 / max", values.join(" / ") + " ms"));
    }
    if let Some(storm) = &faults.storm {
        rows.push(("killed at once", grouped(storm.killed)));
        rows.push(("  until the last one reported again", format!("{:.0} ms", storm.all_back_ms)));
        let still = format!("{:.0} ms", storm.others_still_ms);
        rows.push(("  longest with nothing to the others", still));
        if let Some(pause) = storm.others_pause_us {
            let values = [pause.p50, pause.p99, pause.max].map(ms);
            rows.push(("  pauses of one, p50 / p99 / max", values.join(" / ") + " ms"));
        }
    }
    if let Some(mixed) = &faults.mixed {
        rows.push(("shapes that misbehaved", grouped(mixed.shapes)));
        rows.push(("  handled by the slow one", grouped(mixed.slow_handled)));
        rows.push(("  read by its slow reader", grouped(mixed.slow_read)));
    }
    rows.push(("until it had stopped", format!("{:.0} ms", faults.shutdown_ms)));
    Section { name: "faults", rows }
}

fn memory_and_log(report: &Report) -> Section {
    let (memory, log) = (&report.memory, &report.log);
    let shape = memory.bytes_per_shape.map_or("-".to_owned(), |bytes| format!("{bytes:.0} bytes"));
    let read_back = log.read_back_per_s.map_or("-".to_owned(), short);
    Section {
        name: "memory and log",
        rows: vec![
            ("resident", format!("{:.0} MiB", memory.rss_mib)),
            ("an idle shape", shape),
            ("log written", format!("{:.1} MiB", log.bytes_written as f64 / 1_048_576.0)),
            ("log bytes a delivery", format!("{:.6}", log.bytes_per_delivery)),
            ("deliveries read back/s", read_back),
        ],
    }
}

fn postgres(postgres: &PostgresReport) -> Section {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let whose = if postgres.throwaway { "started for this run, without fsync" } else { "given" };
    Section {
        name: "postgres",
        rows: vec![
            ("server", format!("{}, {whose}", postgres.server_version)),
            ("connections that wrote", grouped(postgres.connections.into())),
            ("streams of the source", grouped(postgres.streams)),
            ("slot at the start", postgres.slot_start.clone()),
            ("end of the WAL written", postgres.wal_end.clone()),
            ("slot at the end", postgres.confirmed.clone()),
            ("confirmed in between", mib(postgres.confirmed_bytes)),
            ("positions of the slot seen", grouped(postgres.slot_moves)),
            ("most that was not confirmed", mib(postgres.unconfirmed_bytes_max)),
            ("kept for the slot at the end", mib(postgres.retained_bytes)),
            ("clauses that the server checked", grouped(postgres.clauses_checked)),
        ],
    }
}

fn verified(report: &Report) -> Section {
    let verification = &report.verification;
    let logs = match verification.logs_read {
        0 => "none: it is in memory, or was stopped".to_owned(),
        logs => {
            format!("{} with {} changes", grouped(logs), grouped(verification.log_changes_read))
        }
    };
    Section {
        name: "verified",
        rows: vec![
            ("transactions", grouped(verification.transactions)),
            ("deliveries", grouped(verification.deliveries)),
            ("consumers' flushed prefixes", grouped(verification.consumers_checked)),
            ("logs read in full", logs),
        ],
    }
}

/// Three digits and a unit.
pub(crate) fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e9 => (v / 1e9, " G"),
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits = if scaled >= 100.0 {
        0
    } else if scaled >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{unit}")
}

/// With commas.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        let shorts = [0.5, 1_234.0, 12_345.0, 8_100_000.0, 96e9].map(short);
        assert_eq!(shorts, ["0.50", "1234", "12.3 k", "8.10 M", "96.0 G"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
