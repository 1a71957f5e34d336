//! Page: one HTML file that needs nothing else, with the charts in it.

use super::chart::Chart;
use super::document::Report;
use super::table::{sections, short};
use std::fmt::Write;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#111827;background:#f9fafb;margin:0}\
main{max-width:980px;margin:0 auto;padding:32px 24px}\
h1{font-size:24px;margin:0}h2{font-size:15px;margin:0 0 8px;color:#374151}\
.sub{color:#6b7280;margin:4px 0 24px}\
.cards{display:flex;flex-wrap:wrap;gap:12px;margin-bottom:24px}\
.card{background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:14px 18px;flex:1 1 170px}\
.card b{display:block;font-size:24px}.card span{color:#6b7280;font-size:13px}\
.box{background:#fff;border:1px solid #e5e7eb;border-radius:10px;padding:16px;margin-bottom:16px}\
.box svg{width:100%;height:auto}\
.ok{color:#047857}.tables{columns:2 380px;column-gap:16px}.tables .box{break-inside:avoid}\
table{border-collapse:collapse;width:100%}td{padding:3px 0;vertical-align:top}\
td:last-child{text-align:right;font-variant-numeric:tabular-nums}td:first-child{color:#4b5563}\
code{background:#eef2ff;padding:2px 6px;border-radius:6px;word-break:break-all}";

/// The page of `report`.
pub(crate) fn page(report: &Report, charts: &[Chart]) -> String {
    let title = format!("walfan: {} at {} shapes", report.scenario, report.config.shapes);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <style>{STYLE}</style></head><body><main>\n<h1>{}</h1>\n<p class=\"sub\">{} \
         <span class=\"ok\">✓ verified</span> · <code>{}</code></p>\n",
        escaped(&title),
        escaped(&title),
        escaped(&report.date),
        escaped(&report.command)
    );
    html.push_str(&cards(report));
    for chart in charts {
        let title = escaped(&chart.title);
        // Writing to a string does not fail.
        let _ok = writeln!(html, "<div class=\"box\"><h2>{title}</h2>{}</div>", chart.svg);
    }
    html.push_str("<div class=\"tables\">\n");
    for section in sections(report) {
        let _ok = write!(html, "<div class=\"box\"><h2>{}</h2><table>", section.name);
        for (what, value) in section.rows {
            let (what, value) = (escaped(what), escaped(&value));
            let _ok = write!(html, "<tr><td>{what}</td><td>{value}</td></tr>");
        }
        html.push_str("</table></div>\n");
    }
    html.push_str("</div>\n</main></body></html>\n");
    html
}

/// The figures that one looks for first.
fn cards(report: &Report) -> String {
    let throughput = &report.throughput;
    let mut cards = vec![
        (short(throughput.deliveries_per_s), format!("deliveries {} / s", throughput.deliveries)),
        (short(throughput.txns_per_s), "transactions / s".to_owned()),
    ];
    if let Some(latency) = &report.latency_us.publish_to_flushed {
        let p99 = format!("{:.1} ms", latency.p99 as f64 / 1e3);
        cards.push((p99, "publish to flushed, p99".to_owned()));
    }
    let stalled = format!("{:.0} ms", report.flush.stalled_ms_max);
    cards.push((stalled, "longest stall of the flushed LSN".to_owned()));
    if report.faults.killed > 0 {
        let lost = "consumers killed, nothing lost".to_owned();
        cards.push((short(report.faults.killed as f64), lost));
    }
    if let Some(postgres) = &report.postgres {
        let what = "the slot's confirmed_flush_lsn: the end of the WAL written".to_owned();
        cards.push((postgres.confirmed.clone(), what));
    }
    if let Some(baseline) = &report.baseline {
        cards.push((format!("{:.2} ×", baseline.ratio), "of bare crossbeam".to_owned()));
    }
    if let Some(mailbox) = &report.mailbox {
        let handled = short(mailbox.throughput.deliveries_per_s);
        cards.push((handled, "handled / s with mailboxes, same store".to_owned()));
    }
    let mut html = String::from("<div class=\"cards\">");
    for (value, what) in cards {
        let (value, what) = (escaped(&value), escaped(&what));
        let _ok = write!(html, "<div class=\"card\"><b>{value}</b><span>{what}</span></div>");
    }
    html.push_str("</div>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
