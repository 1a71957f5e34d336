//! Write: where reports go.

use super::chart::charts;
use super::document::Report;
use super::page::page;
use crate::host::Revision;
use crate::run::{Outcome, RunError};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the report's JSON to `path`, or to standard output for `-`.
pub(crate) fn write_json(report: &Report, path: &Path) -> Result<(), RunError> {
    let json = json(report)?;
    if path == Path::new("-") {
        print!("{json}");
        return Ok(());
    }
    write(path, &json)
}

/// Writes JSON and page into `directory`; the two paths.
pub(crate) fn write_results(
    report: &Report,
    outcome: &Outcome,
    revision: &Revision,
    directory: &Path,
) -> Result<[PathBuf; 2], RunError> {
    let make = fs::create_dir_all(directory);
    make.map_err(|error| RunError::Write { path: directory.to_owned(), error })?;
    let dirty = if revision.dirty { "-dirty" } else { "" };
    let name = format!("{}-{}-{}{dirty}", report.date, report.scenario, revision.short());
    let paths = ["json", "html"].map(|kind| directory.join(format!("{name}.{kind}")));
    let handled = report.config.has_consumers();
    let charts = charts(outcome, handled).map_err(|error| RunError::Report(error.to_string()))?;
    write(&paths[0], &json(report)?)?;
    write(&paths[1], &page(report, &charts))?;
    Ok(paths)
}

fn json(report: &Report) -> Result<String, RunError> {
    let json = serde_json::to_string_pretty(report);
    json.map(|json| json + "\n").map_err(|error| RunError::Report(error.to_string()))
}

fn write(path: &Path, text: &str) -> Result<(), RunError> {
    fs::write(path, text).map_err(|error| RunError::Write { path: path.to_owned(), error })
}
