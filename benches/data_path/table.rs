//! The table, as it is printed.

use crate::row::{Comparison, Figure, Goal, Nothing, Row, Short};

pub(crate) fn print_head() {
    println!();
    print_line(["#", "work", "ours", "the other side", "ratio", "goal"]);
}

pub(crate) fn print_row(row: &Row) {
    match &row.result {
        Ok(comparison) => print_comparison(row, comparison),
        Err(nothing) => print_line([row.number, &row.work, &said(nothing), "", "", ""]),
    }
}

/// How many goals were reached.
pub(crate) fn print_summary(rows: &[Row]) {
    let compared = || rows.iter().filter_map(|row| row.result.as_ref().ok());
    let count = |reached| compared().filter(|it| it.is_reached() == reached).count();
    let [reached, missed, shown] = [Some(true), Some(false), None].map(count);
    let nothing = rows.iter().filter(|row| row.result.is_err()).count();
    println!("\n{reached} reached, {missed} missed, {shown} shown, {nothing} without numbers");
}

fn print_comparison(row: &Row, comparison: &Comparison) {
    let Comparison { ours, other, beside, .. } = comparison;
    let named = |figure: &Figure| format!("{} {figure}", figure.name);
    let other = other.as_ref().map(named).unwrap_or_default();
    let ratio = comparison.ratio().map(|ratio| Short(ratio).to_string()).unwrap_or_default();
    let verdict = match comparison.is_reached() {
        Some(true) => "reached",
        Some(false) => "missed",
        None => "",
    };
    let goal = format!("{:<12}{verdict}", goal(comparison));
    print_line([row.number, &row.work, &ours.to_string(), &other, &ratio, goal.trim_end()]);
    if !beside.is_empty() {
        let beside: Vec<String> = beside.iter().map(named).collect();
        print_line(["", "", "", &beside.join(", "), "", ""]);
    }
}

fn print_line([number, work, ours, other, ratio, goal]: [&str; 6]) {
    let line = format!("{number:<4}{work:<60} {ours:<28} {other:<50} {ratio:>6}  {goal}");
    println!("{}", line.trim_end());
}

fn goal(comparison: &Comparison) -> String {
    let (sign, bound) = match comparison.goal {
        Goal::AtLeast(bound) => (">=", bound),
        Goal::AtMost(bound) => ("<=", bound),
        Goal::Shown => return String::new(),
    };
    if comparison.other.is_some() {
        return format!("{sign} {bound:.2}");
    }
    let (scale, unit) = comparison.ours.unit.shown(bound);
    format!("{sign} {:.0} {unit}", bound * scale)
}

/// Why there are no numbers.
pub(crate) fn said(nothing: &Nothing) -> String {
    match nothing {
        Nothing::Lacking { program, remedy } => format!("{program} is missing: {remedy}"),
        Nothing::Elsewhere { command } => format!("measured by '{command}'"),
        Nothing::Failed { reason } => format!("FAILED: {reason}"),
    }
}
