//! The checkpoint protocol without an engine: logs, recovery and storage alone, crashed before and after every effect.
//!
//! A small loop does what a query with a file source and a file sink does with its logs, batch by batch. Whatever
//! crash happens where, in any crash image, and again while recovering: in the end the sink's log shows each batch once,
//! with exactly the files that were promised for it, and a second crash forgets nothing that the first run decided.

use bytes::Bytes;
use wavetank_engine::Result;
use wavetank_engine::checkpoint::{
    Checkpoint, CommitEntry, CompactibleLog, CompactibleOptions, OffsetEntry, SinkFile, SourceFile,
};
use wavetank_engine::environment::Environment;
use wavetank_engine::microbatch::recover::{Found, Start, start};
use wavetank_engine::source::Offset;
use wavetank_sim::{CrashImage, Ended, Fault, Harm, World};

/// Old entries go early, so that purging and gathering are crashed into as well.
const RETAIN: u64 = 2;
const INTERVAL: u64 = 3;

fn options<T>() -> CompactibleOptions<T> {
    let keep = CompactibleOptions::default();
    CompactibleOptions { interval: INTERVAL, cleanup_delay_ms: 0, min_batches_to_retain: RETAIN, ..keep }
}

/// Runs until this many batches are done.
async fn query(environment: Environment, batches: u64) -> Result<()> {
    let storage = environment.storage.as_ref();
    let out = storage.folder("results/out")?;
    let mut checkpoint = Checkpoint::open(&environment, environment.storage.folder("ck").unwrap()).await?;
    let mut seen = CompactibleLog::<SourceFile>::open(&environment, checkpoint.source_folder(0), options()).await?;
    let mut written = CompactibleLog::<SinkFile>::open(&environment, out.child("_spark_metadata"), options()).await?;
    let (mut batch_id, mut begin, mut promised) = match recovered(&checkpoint).await? {
        Start::Fresh => (0, None, None),
        Start::Rerun { batch_id, start, promised, lost } => {
            assert_eq!(lost, None, "no batch may be skipped");
            (batch_id, start[0].clone(), Some(promised))
        }
        Start::Next { batch_id, start, watermark_ms, .. } => {
            assert_eq!(watermark_ms, batch_id as i64, "the watermark goes on");
            (batch_id, start[0].clone(), None)
        }
    };
    while batch_id < batches {
        let entry = match promised.take() {
            Some(entry) => entry,
            None => promise(&mut checkpoint, &mut seen, batch_id).await?,
        };
        let end = entry.offsets[0].clone().expect("the one source always has an offset");
        let steps = |offset: &Offset| offset.as_str().parse::<u64>().expect("a step");
        let files = seen.between(begin.as_ref().map(steps), steps(&end));
        let text = files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join("\n");
        if written.latest().is_none_or(|latest| latest < batch_id) {
            // A life of its own writes a file of its own, as Spark's random names do.
            let name = format!("part-{batch_id}-{}", environment.entropy.uuid("part"));
            out.put(&name, Bytes::from(text)).await?;
            written.add(batch_id, vec![SinkFile::added(out.uri(&name), 1, 0)]).await?;
        }
        checkpoint.commits.add(batch_id, &CommitEntry { next_batch_watermark_ms: batch_id as i64 + 1 }).await?;
        (batch_id, begin) = (batch_id + 1, Some(end));
    }
    Ok(())
}

async fn recovered(checkpoint: &Checkpoint) -> Result<Start> {
    let (offsets, commits) = (&checkpoint.offsets, &checkpoint.commits);
    let (mut latest, mut previous, mut commit) = (None, None, None);
    if let Some(id) = offsets.latest() {
        latest = offsets.get(id).await?.map(|entry| (id, entry));
        previous = if id > 0 { offsets.get(id - 1).await? } else { None };
    }
    if let Some(id) = commits.latest() {
        commit = commits.get(id).await?.map(|entry| (id, entry));
    }
    start(Found {
        latest: latest.as_ref().map(|(id, entry)| (*id, entry)),
        previous: previous.as_ref(),
        commit: commit.as_ref().map(|(id, entry)| (*id, entry)),
        source_count: 1,
        checkpoint: "ck",
    })
}

/// Sees one more file, unless one was seen that no batch was promised yet; and promises all that was seen.
async fn promise(
    checkpoint: &mut Checkpoint,
    seen: &mut CompactibleLog<SourceFile>,
    batch_id: u64,
) -> Result<OffsetEntry> {
    let step = seen.latest().map_or(0, |latest| latest + 1);
    if step <= batch_id {
        seen.add(step, vec![SourceFile { path: format!("f{step}"), timestamp: 0, batch_id: step }]).await?;
    }
    let entry = OffsetEntry {
        batch_watermark_ms: batch_id as i64,
        offsets: vec![seen.latest().map(|step| Offset::new(step.to_string()))],
        ..OffsetEntry::default()
    };
    checkpoint.offsets.add(batch_id, &entry).await?;
    if let Some(end) = batch_id.checked_sub(RETAIN) {
        checkpoint.offsets.purge_before(end).await?;
        checkpoint.commits.purge_before(end).await?;
    }
    Ok(entry)
}

/// What a reader of the sink's folder finds: the content of each file in the log.
async fn visible(environment: Environment) -> Vec<String> {
    let storage = environment.storage.as_ref();
    let log = storage.folder("results/out/_spark_metadata").expect("a folder");
    let files = CompactibleLog::<SinkFile>::read(&log).await.expect("the log can be read").map(|read| read.entries);
    let mut contents = Vec::new();
    for file in files.unwrap_or_default() {
        let data = storage.folder(&file.path).expect("a file").get("").await.expect("readable");
        let data = data.unwrap_or_else(|| panic!("{} is in the log but not there", file.path));
        contents.push(String::from_utf8(data.to_vec()).expect("what was written"));
    }
    contents
}

/// Lives on until a life ends by itself, with these faults; then checks what is left. Answers how many lives it took.
fn lives(batches: u64, faults: &[Fault]) -> u32 {
    let shown = || faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ");
    let world = World::new(7);
    world.effects().arm(faults.iter().cloned());
    for life in 0..=faults.len() as u32 {
        match world.run(|environment| query(environment, batches)) {
            Ended::Finished(Ok(())) => {
                // Whatever is not on disk by now was not acknowledged.
                world.crash(CrashImage::Strict);
                world.reboot();
                let contents = world.run(visible).finished().expect("a reader does not die");
                let expected: Vec<_> = (0..batches).map(|batch| format!("f{batch}")).collect();
                assert_eq!(contents, expected, "{}", shown());
                return life + 1;
            }
            Ended::Finished(Err(error))
                if faults.get(life as usize).is_some_and(|f| f.harm.crash_image().is_none()) =>
            {
                assert!(!error.to_string().contains("internal"), "{}: {error}", shown());
                world.reboot();
            }
            Ended::Finished(Err(error)) => panic!("{}: life {life}: {error}", shown()),
            Ended::Died(_) => {
                let image = faults[life as usize].harm.crash_image().unwrap_or(CrashImage::Kill);
                world.crash(image);
                world.reboot();
            }
            ended => panic!("{}: life {life}: {ended:?}", shown()),
        }
    }
    panic!("{}: never finished", shown());
}

/// The names of the effects of the last life, when these faults happen before it; and how many effects of the lives
/// before are not synced when it begins.
fn effects_after(batches: u64, faults: &[Fault]) -> (Vec<String>, usize) {
    let world = World::new(7);
    world.effects().arm(faults.iter().cloned());
    for fault in faults {
        let died = world.run(|environment| query(environment, batches));
        assert!(matches!(died, Ended::Died(_)), "{fault}: {died:?}");
        world.crash(fault.harm.crash_image().expect("a crash"));
        world.reboot();
        world.effects().take_trace();
    }
    let unsynced_count = world.disk().unsynced_count();
    world.run(|environment| query(environment, batches)).finished().expect("alive").expect("no error");
    let trace = world.effects().take_trace().into_iter();
    (trace.filter(|effect| effect.op.changes()).map(|effect| effect.name).collect(), unsynced_count)
}

fn fault(life: u32, at: &str, harm: Harm) -> Fault {
    Fault { life, at: at.to_string(), harm }
}

#[test]
fn one_crash_anywhere() {
    // Enough for gathered files and purged entries: the sixth batch deletes what the third one gathered.
    let batches = 6;
    assert_eq!(lives(batches, &[]), 1);
    let names = effects_after(batches, &[]).0;
    assert!(names.len() > 100, "{} effects", names.len());
    // Before an effect is after the one before it.
    let image = CrashImage::Strict;
    assert_eq!(lives(batches, &[fault(0, &names[0], Harm::CrashBefore { image })]), 2);
    for name in &names {
        for image in CrashImage::ALL {
            assert_eq!(lives(batches, &[fault(0, name, Harm::CrashAfter { image })]), 2);
        }
    }
}

#[test]
fn a_kill_anywhere_then_a_power_cut_anywhere() {
    let batches = 2;
    let mut kills_count = 0;
    for first in effects_after(batches, &[]).0 {
        let kill = fault(0, &first, Harm::CrashAfter { image: CrashImage::Kill });
        let (names, unsynced_count) = effects_after(batches, std::slice::from_ref(&kill));
        if unsynced_count == 0 {
            continue; // the power cut alone is the test above
        }
        kills_count += 1;
        for second in names {
            let cut = fault(1, &second, Harm::CrashAfter { image: CrashImage::Strict });
            assert_eq!(lives(batches, &[kill.clone(), cut]), 3);
        }
    }
    assert!(kills_count > 20, "{kills_count}");
}

#[test]
fn a_refusal_anywhere() {
    let batches = 4;
    for name in effects_after(batches, &[]).0 {
        for harm in [Harm::NoSpace, Harm::Eio, Harm::LostReply] {
            assert!(lives(batches, &[fault(0, &name, harm)]) <= 2, "{name}");
        }
    }
}
