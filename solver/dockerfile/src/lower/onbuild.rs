//! `ONBUILD`: triggers are recorded in the stage that declares them and run at the start of every
//! stage that is built on it.

use std::collections::{BTreeMap, BTreeSet};

use super::from::Foundation;
use crate::ast::InstructionKind;
use crate::error::Error;
use crate::stages::{Base, StageTable};

/// Puts the triggers of its base in front of every needed stage that has not got them yet. Says
/// whether that made stages needed that were not before.
pub(super) fn add_triggers(
    table: &mut StageTable,
    needed: &BTreeSet<usize>,
    bases: &BTreeMap<usize, Box<Foundation>>,
) -> Result<bool, Error> {
    let mut needs_more = false;
    for stage in needed.iter().copied() {
        let node = &mut table.stages[stage];
        if std::mem::replace(&mut node.triggered, true) || node.replacement.is_some() {
            continue;
        }
        let triggers = match node.base {
            Base::Stage(base) => declared(table, base, bases),
            Base::Image(_) | Base::Scratch => inherited(stage, bases),
        };
        if triggers.is_empty() {
            continue;
        }
        let span = table.stages[stage].span;
        let mut commands = Vec::with_capacity(triggers.len());
        for trigger in &triggers {
            let instruction = crate::parse::parse_trigger(trigger, span)?;
            let command = table.command(instruction, true)?;
            needs_more |= command.sources().next().is_some();
            commands.push(command);
        }
        let node = &mut table.stages[stage];
        node.step_count += commands.len();
        node.commands.splice(0..0, commands);
    }
    Ok(needs_more)
}

/// Triggers of the image that a stage is built on.
fn inherited(stage: usize, bases: &BTreeMap<usize, Box<Foundation>>) -> Vec<String> {
    bases
        .get(&stage)
        .map(|base| base.image.config.on_build.clone())
        .unwrap_or_default()
}

/// Triggers that a stage declares; when a named context took its place, those of its image.
fn declared(
    table: &StageTable,
    stage: usize,
    bases: &BTreeMap<usize, Box<Foundation>>,
) -> Vec<String> {
    let node = &table.stages[stage];
    if node.replacement.is_some() {
        return inherited(stage, bases);
    }
    let trigger = |command: &crate::stages::Command| match &command.instruction.kind {
        InstructionKind::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
        _ => None,
    };
    node.commands.iter().filter_map(trigger).collect()
}
