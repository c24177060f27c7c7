//! The picture of `docs/pictures/growth.svg`: a chart for each kind of cost and of size, each from zero, so that what is flat looks flat.

use std::fmt::Write;

use crate::{Point, Series};

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 52.0;
const PLOT_WIDTH: f64 = 178.0;
const PLOT_HEIGHT: f64 = 100.0;
const TOP: f64 = 40.0;
/// Lines of a chart, readable on light and on dark pages.
const COLOURS: [&str; 2] = ["#2f81f7", "#d1742f"];

type Cost = (&'static str, fn(&Point) -> f64);

/// What is drawn of each point.
const COSTS: [Cost; 4] = [
    ("CPU ms for 1,000", |point| point.cpu),
    ("write units for one", |point| point.writes),
    ("read units for one", |point| point.reads),
    ("SQS requests for one", |point| point.sqs),
];

/// Draws deliveries by integrations above, and what reads the event log by its size below.
pub fn draw(by_integrations: &Series, by_events: &[Series]) -> String {
    let mut svg = String::new();
    let (width, height) = (WIDTH * COSTS.len() as f64, 2.0 * HEIGHT + 30.0);
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="#808080">"##
    );
    let rows: [&[&Series]; 2] = [&[by_integrations], &by_events.iter().collect::<Vec<_>>()];
    for (row, series) in rows.into_iter().enumerate() {
        for (column, cost) in COSTS.iter().enumerate() {
            let (x, y) = (column as f64 * WIDTH, row as f64 * HEIGHT);
            let _ = write!(svg, r#"<g transform="translate({x} {y})">"#);
            chart(&mut svg, series, *cost);
            svg.push_str("</g>");
        }
    }
    let names = [by_integrations].into_iter().chain(by_events);
    for (index, series) in names.enumerate() {
        let colour = COLOURS[index.saturating_sub(1)];
        let (x, y) = (LEFT + 330.0 * index as f64, height - 10.0);
        let name = series.name;
        let _ = write!(
            svg,
            r#"<text x="{x}" y="{y}" fill="{colour}">{name}</text>"#
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn chart(svg: &mut String, series: &[&Series], (title, value): Cost) {
    let values = series
        .iter()
        .flat_map(|series| series.points.iter().map(value));
    let most = values.fold(f64::MIN_POSITIVE, f64::max) * 1.25;
    let bottom = TOP + PLOT_HEIGHT;
    let right = LEFT + PLOT_WIDTH;
    let _ = write!(
        svg,
        r##"<text x="{LEFT}" y="24" font-weight="bold">{title}</text><path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#808080"/><text x="{}" y="{}" text-anchor="end">{}</text><text x="{}" y="{bottom}" text-anchor="end">0</text>"##,
        LEFT - 5.0,
        TOP + 8.0,
        short(most),
        LEFT - 5.0
    );
    for (index, series) in series.iter().enumerate() {
        let step = PLOT_WIDTH / (series.points.len() as f64 - 0.5);
        let place = |(n, point): (usize, &Point)| {
            let x = LEFT + step * (n as f64 + 0.25);
            (x, bottom - PLOT_HEIGHT * value(point) / most)
        };
        let places: Vec<(f64, f64)> = series.points.iter().enumerate().map(place).collect();
        let line: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let (colour, line) = (COLOURS[index], line.join(" "));
        let _ = write!(
            svg,
            r#"<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        );
        for ((x, y), point) in places.iter().zip(&series.points) {
            let _ = write!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            );
            let (size, below) = (thousands(point.size), bottom + 15.0);
            let _ = write!(
                svg,
                r#"<text x="{x:.1}" y="{below}" text-anchor="middle">{size}</text>"#
            );
        }
    }
}

/// A number with about two digits that count.
fn short(value: f64) -> String {
    let digits = (1.0 - value.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{value:.digits$}")
}

fn thousands(size: usize) -> String {
    let text = size.to_string();
    let parts: Vec<&str> = text
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|part| std::str::from_utf8(part).unwrap_or_default())
        .collect();
    parts.join(",")
}
