//! Charts: how the run went over time, and how its latencies are spread, as SVG text that a page
//! can hold.

use crate::run::Outcome;
use crate::watch::Point;
use plotters::coord::Shift;
use plotters::prelude::*;

/// Pixels.
const SIZE: (u32, u32) = (920, 300);
const BLUE_LINE: RGBColor = RGBColor(37, 99, 235);
const RED_LINE: RGBColor = RGBColor(220, 38, 38);
const GRID: RGBColor = RGBColor(229, 231, 235);
const INK: RGBColor = RGBColor(75, 85, 99);
/// Looks that one point of a rate is drawn from: half a second.
const SMOOTH: usize = 5;

/// A chart that could not be drawn.
pub(crate) type ChartError = Box<dyn std::error::Error + Send + Sync>;

type Series = Vec<(f64, f64)>;

/// A title and an SVG.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) svg: String,
}

/// All charts of a run.
pub(crate) fn charts(outcome: &Outcome, handled: bool) -> Result<Vec<Chart>, ChartError> {
    let points = &outcome.loaded.points;
    let measure_us = outcome.loaded.schedule.measure_us;
    let what = if handled { "handled" } else { "logged" };
    let deliveries = |p: &Point| if handled { p.kept() } else { p.logged };
    let mut charts = vec![
        Chart {
            title: format!("Deliveries {what}, millions a second"),
            svg: line(&rates(points, measure_us, |p| deliveries(p) as f64 / 1e6), BLUE_LINE)?,
        },
        Chart {
            title: "Age of the oldest transaction that is not flushed, ms".into(),
            svg: line(&values(points, measure_us, |p| p.lag_us as f64 / 1e3), RED_LINE)?,
        },
    ];
    if points.last().is_some_and(|last| last.killed > 0) {
        charts.push(Chart {
            title: "Consumers killed a second".into(),
            svg: line(&rates(points, measure_us, |p| p.killed as f64), RED_LINE)?,
        });
    }
    if outcome.loaded.schedule.is_open_loop() {
        charts.push(Chart {
            title: "Publish to flushed (red) and to delivered (blue), ms by percentile".into(),
            svg: spread(outcome)?,
        });
    }
    Ok(charts)
}

/// Seconds since the measurement began, and what `value` says.
fn values(points: &[Point], measure_us: u64, value: impl Fn(&Point) -> f64) -> Series {
    points.iter().map(|point| (seconds(point, measure_us), value(point))).collect()
}

/// Seconds since the measurement began, and how fast `value` grows.
fn rates(points: &[Point], measure_us: u64, value: impl Fn(&Point) -> f64) -> Series {
    let pairs = points.iter().zip(points.iter().skip(SMOOTH));
    let rate = |(before, after): (&Point, &Point)| {
        let elapsed = after.at_us.saturating_sub(before.at_us).max(1) as f64 / 1e6;
        (seconds(after, measure_us), (value(after) - value(before)).max(0.0) / elapsed)
    };
    pairs.map(rate).collect()
}

fn seconds(point: &Point, measure_us: u64) -> f64 {
    (point.at_us as f64 - measure_us as f64) / 1e6
}

fn line(series: &Series, color: RGBColor) -> Result<String, ChartError> {
    let first = series.first().map_or(0.0, |point| point.0);
    let last = series.last().map_or(1.0, |point| point.0).max(first + 0.1);
    draw(first..last, top(series), "seconds", |x| format!("{x:.0}"), &[(series, color)])
}

/// By percentile; each step to the right is ten times rarer.
fn spread(outcome: &Outcome) -> Result<String, ChartError> {
    let rarities: Vec<f64> = (0..=40).map(|step| f64::from(step) / 10.0).collect();
    let quantiles: Vec<f64> = rarities.iter().map(|r| 1.0 - 10f64.powf(-r)).collect();
    let series = |latency: &crate::latency::Latency| -> Series {
        let values = latency.at(&quantiles);
        rarities.iter().zip(values).map(|(r, (_, us))| (*r, us as f64 / 1e3)).collect()
    };
    let (flushed, delivered) = (series(&outcome.loaded.flush.latency), series(&outcome.delivered));
    let height = top(&flushed).max(top(&delivered));
    let label = |x: &f64| match x.round() as i64 {
        0 => "0".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        3 => "99.9 %".to_owned(),
        _ => "99.99 %".to_owned(),
    };
    draw(0.0..4.0, height, "", label, &[(&flushed, RED_LINE), (&delivered, BLUE_LINE)])
}

/// A little above the highest value.
fn top(series: &Series) -> f64 {
    series.iter().map(|point| point.1).fold(0.0, f64::max).max(0.001) * 1.08
}

fn draw(
    width: std::ops::Range<f64>,
    height: f64,
    x_name: &str,
    x_label: impl Fn(&f64) -> String,
    lines: &[(&Series, RGBColor)],
) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area: DrawingArea<SVGBackend<'_>, Shift> =
            SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(32)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(width, 0.0..height)
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .axis_style(GRID)
            .label_style(("sans-serif", 13, &INK))
            .x_desc(x_name)
            .x_labels(if x_name.is_empty() { 5 } else { 12 })
            .y_labels(6)
            .x_label_formatter(&x_label)
            .y_label_formatter(&|y| super::table::short(*y))
            .draw()
            .map_err(|error| error.to_string())?;
        for (series, color) in lines {
            let style = color.stroke_width(2);
            let drawn = chart.draw_series(LineSeries::new(series.iter().copied(), style));
            drawn.map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_course_becomes_a_rate_and_a_picture() {
        let look = |n: u64| Point { at_us: n * 100_000, handled: n * 10, ..Point::default() };
        let points: Vec<Point> = (0..20).map(look).collect();
        let series = rates(&points, 1_000_000, |p| p.handled as f64);
        assert_eq!(series.len(), 15);
        assert!(series.iter().all(|(_, rate)| (rate - 100.0).abs() < 1e-6));
        assert_eq!(series[0].0, -0.5);
        let svg = line(&series, BLUE_LINE).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("<polyline") && svg.contains("<text"));
        assert!(line(&Vec::new(), RED_LINE).unwrap().starts_with("<svg"));
    }
}
