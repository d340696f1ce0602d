//! `wavetank explain`: the plans of a script's queries.

use clap::Args;
use wavetank::sinks;

use crate::Outcome;
use crate::session::Script;

/// The command line of `wavetank explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    script: Script,
}

/// Prints the plan of every streaming table; the script's other statements are only as far carried out as planning
/// needs it.
pub async fn explain(arguments: Arguments) -> Outcome {
    let session = arguments.script.session(sinks::stdout())?;
    for (name, plan) in session.explain_script(&arguments.script.text()?).await? {
        println!("== {name} ==\n{}\n", plan.trim_end());
    }
    Ok(())
}
