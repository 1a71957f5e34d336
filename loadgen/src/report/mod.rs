//! Report: a verified run as one JSON document, as a table, and as a page to look at.

mod chart;
mod document;
mod page;
mod table;
mod write;

pub(crate) use document::{PostgresReport, Report};
pub(crate) use table::table;
pub(crate) use write::{write_json, write_results};
