//! A user's job as what lives in a simulated world: tapes for its streams, a witness for its output.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use wavetank_engine::environment::Environment;
use wavetank_engine::{Error, Result};
use wavetank_sim::pipeline::Queries;
use wavetank_sim::subject::{Life, Running, Subject};

use super::job::Job;

/// The name of the job's query, and of its witness.
pub(super) const OUTPUT: &str = "output";

/// A job in a simulated world.
pub(super) struct Simulated<'a> {
    /// The job.
    pub(super) job: &'a Job,
}

impl Subject for Simulated<'_> {
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        start(self.job, life).boxed_local()
    }
}

async fn start(job: &Job, life: Life<'_>) -> Result<Box<dyn Running>> {
    put_files(job, &life.environment).await?;
    let session = crate::session_builder(life.environment)
        .parallelism(job.parallelism)
        .sources(life.sources)
        .sinks(life.sinks)
        .build()?;
    job.furnish(&session)?;
    life.settings.iter().try_for_each(|(key, value)| session.set_conf(key, value))?;
    // The tapes, and the query too if it is text.
    let mut queries = session.run_script(life.script).await?.queries;
    if queries.is_empty() {
        let writer = job.build(&session).await?.write_stream().format("witness").query_name(OUTPUT);
        let writer = writer.output_mode(job.mode()?).option("checkpointLocation", "checkpoint");
        queries.push(writer.start().await?);
    }
    Ok(Box::new(Queries::new(queries)))
}

/// The job's files; those that an earlier life put are there.
async fn put_files(job: &Job, environment: &Environment) -> Result<()> {
    for (path, content) in &job.files {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let folder = environment.storage.folder(folder)?;
        if folder.get(name).await?.is_none() {
            match folder.put(name, Bytes::from(content.clone())).await {
                Ok(()) => {}
                Err(error) => return Err(Error::analysis(format!("The test's file {path} cannot be put: {error}"))),
            }
        }
    }
    Ok(())
}
