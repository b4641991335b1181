//! The question before a restore replaces something: the target's name is to be typed. Nothing has changed yet when
//! it is asked.

use crate::console::Console;
use crate::errors::{Failure, exit};
use crate::signals::Waiting;
use engines::Holder;
use flow::quoted;
use std::io::{IsTerminal, Write};

/// What is asked, and what the command line answers already.
pub(crate) struct Question<'a> {
    /// The name to be typed.
    pub(crate) name: &'a str,
    /// What will be replaced, in full.
    pub(crate) place: &'a str,
    /// Who uses it now.
    pub(crate) holders: &'a [Holder],
    /// Whether the restore ends them by itself.
    pub(crate) ends_holders: bool,
    /// What `--confirm` gave.
    pub(crate) confirm: Option<&'a str>,
    /// Whether `--yes` was given.
    pub(crate) yes: bool,
}

/// Asks, unless the command line answers. An answer that is not the name refuses.
pub(crate) fn ask(question: &Question<'_>, console: &Console) -> Result<(), Failure> {
    let name = question.name;
    if let Some(answer) = question.confirm {
        if answer == name {
            return Ok(());
        }
        return Err(Failure::usage(
            format!("`--confirm {answer}` does not name the target, which is {name}"),
            format!("check the target; where it is meant: --confirm {}", quoted(name)),
        ));
    }
    if question.yes {
        return if question.holders.is_empty() { Ok(()) } else { Err(in_use(question)) };
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            format!("{} would be replaced, and without a terminal nobody can confirm it", question.place),
            format!("add --confirm {}", quoted(name)),
        ));
    }
    console.note(&format!("{} will be replaced.", console.bold(question.place)));
    let waiting = Waiting::begin();
    let _ = write!(std::io::stderr().lock(), "Type {name} to go on: ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    drop(waiting);
    match read {
        Ok(_) if answer.trim_end_matches(['\n', '\r']) == name => Ok(()),
        Ok(_) => {
            Err(Failure::usage("the name was not typed; nothing was changed", format!("type {name} in full")))
        }
        Err(error) => {
            Err(Failure::usage("the answer cannot be read", format!("add --confirm {}", quoted(name)))
                .with_cause(&error))
        }
    }
}

fn in_use(question: &Question<'_>) -> Failure {
    let holders: Vec<String> = question.holders.iter().map(describe).collect();
    Failure::new(
        exit::LOCKED,
        format!(
            "{} is in use by {}, so that `--yes` does not answer for it",
            question.place,
            holders.join(", ")
        ),
    )
    .with_hint(match question.ends_holders {
        true => format!("--confirm {} ends that", quoted(question.name)),
        false => format!(
            "end what uses it, or give --stop-command and --confirm {}, or write through it with --in-place",
            quoted(question.name)
        ),
    })
}

/// Returns a holder as text.
pub(crate) fn describe(holder: &Holder) -> String {
    match holder.pid {
        Some(pid) => format!("{} (process {pid})", holder.name),
        None => holder.name.clone(),
    }
}
