//! The timeline of a run as an SVG: lanes for arrivals, the logs, state, sinks and sources; crashes as red lines.
//!
//! The horizontal axis is the order of effects, not time: virtual time stands still while anything runs, and what
//! matters is what came before what.

use std::fmt::Write;

use serde_json::Value;

use crate::effects::{Effect, Outcome};
use crate::runner::Run;
use crate::scenario::Scenario;

const LANES: [&str; 7] = ["arrivals", "sources", "offsets", "state", "sinks", "commits", "other"];
const LEFT: usize = 90;
const TOP: usize = 30;
const LANE_HEIGHT: usize = 34;
const WIDTH: usize = 1400;

/// The picture of a run.
pub fn svg(scenario: &Scenario, run: &Run) -> String {
    let mut picture = String::new();
    // Writing into a String cannot fail.
    let _ = draw(&mut picture, scenario, run);
    picture
}

fn draw(out: &mut String, scenario: &Scenario, run: &Run) -> std::fmt::Result {
    let drawn: Vec<&Effect> = run.trace.iter().filter(|e| e.op.changes() || e.outcome != Outcome::Done).collect();
    let x = |at: usize| LEFT + at * (WIDTH - LEFT - 20) / drawn.len().max(1);
    let bottom = TOP + LANES.len() * LANE_HEIGHT;
    let height = bottom + 40;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">"#
    )?;
    writeln!(out, r#"<rect width="{WIDTH}" height="{height}" fill="white"/>"#)?;
    for (lane, name) in LANES.iter().enumerate() {
        let y = TOP + lane * LANE_HEIGHT;
        let fill = if lane % 2 == 0 { "#f4f6f8" } else { "#ffffff" };
        writeln!(out, r#"<rect x="0" y="{y}" width="{WIDTH}" height="{LANE_HEIGHT}" fill="{fill}"/>"#)?;
        writeln!(out, r#"<text x="8" y="{}">{name}</text>"#, y + 21)?;
    }
    draw_steps(out, scenario, run, &drawn, &x)?;
    draw_effects(out, &drawn, &x)?;
    draw_watermarks(out, run, &drawn, &x, bottom + 16)?;
    writeln!(out, "</svg>")
}

fn draw_steps(
    out: &mut String,
    scenario: &Scenario,
    run: &Run,
    drawn: &[&Effect],
    x: &impl Fn(usize) -> usize,
) -> std::fmt::Result {
    for (at_us, life, step) in &run.steps {
        let Some(step) = scenario.steps.get(*step).filter(|step| step.rows().is_some()) else { continue };
        // Arrivals are no effects: they stand before the first effect of their moment or later.
        let at = drawn.iter().position(|e| (e.life, e.at_us) >= (*life, *at_us)).unwrap_or(drawn.len());
        let rows = step.rows().map_or(0, <[String]>::len);
        let (cx, cy) = (x(at), TOP + LANE_HEIGHT / 2);
        writeln!(
            out,
            "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"5\" fill=\"#2b7de9\"><title>{}</title></circle><text x=\"{}\" y=\"{}\">{rows}</text>",
            escape(&step.to_string()),
            cx + 7,
            cy + 4
        )?;
    }
    Ok(())
}

fn draw_effects(out: &mut String, drawn: &[&Effect], x: &impl Fn(usize) -> usize) -> std::fmt::Result {
    let mut life = 0;
    for (at, effect) in drawn.iter().enumerate() {
        let y = TOP + lane(effect) * LANE_HEIGHT;
        let colour = match effect.outcome {
            Outcome::Done => "#3a3f44",
            Outcome::Refused(_) => "#e08a00",
            Outcome::DiedBefore | Outcome::DiedAfter => "#d11f1f",
        };
        if effect.life != life {
            life = effect.life;
            writeln!(out, r##"<text x="{}" y="{}" fill="#666">life {life}</text>"##, x(at) + 2, TOP - 8)?;
        }
        writeln!(
            out,
            r#"<rect x="{}" y="{}" width="3" height="{}" fill="{colour}"><title>{}</title></rect>"#,
            x(at),
            y + 7,
            LANE_HEIGHT - 14,
            escape(&effect.to_string())
        )?;
        if matches!(effect.outcome, Outcome::DiedBefore | Outcome::DiedAfter) {
            let bottom = TOP + LANES.len() * LANE_HEIGHT;
            writeln!(
                out,
                r##"<line x1="{0}" y1="{TOP}" x2="{0}" y2="{bottom}" stroke="#d11f1f" stroke-width="2"/><text x="{0}" y="{1}" fill="#d11f1f">✗ {2}</text>"##,
                x(at) + 1,
                bottom + 32,
                escape(&effect.name)
            )?;
        }
    }
    Ok(())
}

/// The watermark of each batch, where the batch was promised.
fn draw_watermarks(
    out: &mut String,
    run: &Run,
    drawn: &[&Effect],
    x: &impl Fn(usize) -> usize,
    y: usize,
) -> std::fmt::Result {
    for (root, logs) in &run.observed.logs {
        for (batch_id, text) in &logs.offsets {
            let promised = format!("{root}/offsets/{batch_id} ");
            let Some(at) = drawn.iter().position(|effect| effect.name.starts_with(&promised)) else { continue };
            let metadata: Value =
                text.lines().nth(1).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            let watermark = metadata["batchWatermarkMs"].as_i64().unwrap_or(0);
            writeln!(out, r##"<text x="{}" y="{y}" fill="#666">{batch_id}: {watermark}</text>"##, x(at))?;
        }
    }
    Ok(())
}

fn lane(effect: &Effect) -> usize {
    let has = |part: &str| effect.name.split([' ', '/', '.']).any(|piece| piece == part);
    if has("tape") || has("sources") {
        1
    } else if has("offsets") {
        2
    } else if has("state") {
        3
    } else if has("witness") || has("_spark_metadata") || effect.name.contains("part-") {
        4
    } else if has("commits") {
        5
    } else {
        6
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::CrashImage;
    use crate::fault::{Fault, Harm};
    use crate::mini::{Bug, Mini, scenario};
    use crate::runner::run;

    #[test]
    fn arrivals_effects_crashes_and_lives_are_drawn() {
        let harm = Harm::CrashAfter { image: CrashImage::Strict };
        let fault = Fault { life: 0, at: "checkpoint/commits/0.tmp fsync".into(), harm };
        let scenario = scenario(&[&["a"], &["b", "c"]]).with_faults([fault]);
        let picture = svg(&scenario, &run(&scenario, &Mini { bug: Bug::None }));
        assert_eq!(picture.matches("<circle").count(), 2);
        assert_eq!(picture.matches("<line").count(), 1);
        assert!(picture.contains("life 1") && picture.contains("✗ checkpoint/commits/0.tmp fsync"), "{picture}");
        assert_eq!(picture.matches("<rect").count(), picture.matches("</rect>").count() + LANES.len() + 1);
    }
}
