//! The engine on an object store: its checkpoint, its source's files and its sink's folder, under every fault of one.

use futures::future::join_all;
use wavetank_engine::environment::Environment;
use wavetank_engine::session::SessionBuilder;
use wavetank_sim::blob;
use wavetank_sim::campaign::check;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::sweep::{Depth, sweep};
use wavetank_sim::world::World;
use wavetank_sim::{Fault, Harm, Run, Scenario, Step, run};
use wavetank_sinks::MemoryTables;

const WINDOWS: &str = "SELECT window(ts, '10 seconds').start AS w, k, count(*) AS n, sum(v) AS s FROM STREAM events \
                       WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY window(ts, '10 seconds'), k";

/// Two files of rows, taken one after the other, with everything in the object store.
fn scenario(sink: &str) -> Scenario {
    let root = blob::ROOT;
    let script = format!(
        "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT) USING json OPTIONS (path '{root}/in', maxFilesPerTrigger '1');\n\
         CREATE STREAMING TABLE out USING {sink} OPTIONS (path '{root}/out', outputMode 'append', \
         checkpointLocation '{root}/checkpoint')\n  AS {WINDOWS};"
    );
    let drop = |file: &str, rows: &[(&str, i64)]| {
        let row = |(second, v): &(&str, i64)| format!(r#"{{"ts":"2024-01-01T00:00:{second}Z","k":"a","v":{v}}}"#);
        Step::Drop { file: format!("{root}/in/{file}.json"), rows: rows.iter().map(row).collect(), torn: false }
    };
    let steps = vec![
        drop("0", &[("01", 1), ("04", 2), ("12", 3)]),
        Step::Settle,
        drop("1", &[("31", 4), ("03", 5)]),
        Step::Settle,
    ];
    Scenario { seed: 1, script, steps, ..Scenario::default() }
}

fn complaints(scenario: &Scenario) -> Option<String> {
    let (baseline, run, failures) = check(scenario, &Pipeline);
    let text = || wavetank_sim::page::text(scenario, &run, &baseline, &failures, &scenario.to_toml());
    (!failures.is_empty()).then(text)
}

fn requests(run: &Run) -> Vec<String> {
    let names = run.trace.iter().map(|effect| effect.name.clone());
    names.filter(|name| name.starts_with(blob::ROOT)).collect()
}

#[test]
fn a_query_lives_on_an_object_store() {
    let found = run(&scenario("json"), &Pipeline);
    assert_eq!(found.failures, []);
    let rows = found.observed.sinks[&format!("{}/out", blob::ROOT)].all_rows().join(" ");
    assert!(rows.contains(r#""n":3,"s":8"#) && rows.contains(r#""n":1,"s":3"#), "{rows}");
    let names = requests(&found);
    for kind in ["offsets/0 put", "commits/1 put", "sources/0/0 put", "in/0.json get", "out/_spark_metadata/0 put"] {
        assert!(names.iter().any(|name| name.ends_with(kind)), "{kind}: {names:?}");
    }
    assert_eq!(names.len(), found.trace.len(), "nothing is anywhere else");
    assert_eq!(complaints(&scenario("json")), None);
}

#[test]
fn every_crash_on_an_object_store_is_survived() {
    let found = sweep(&scenario("parquet"), &Pipeline, &Depth { recovery_stride: 17, ..Depth::single() });
    let total = found.total();
    assert!(found.failures.is_empty(), "{:?}", found.failures.first());
    assert_eq!(total.reached, total.exist, "{found}");
}

/// Everything that can go wrong with one request.
fn harms() -> Vec<Harm> {
    let mut harms = vec![
        Harm::Eio,
        Harm::Denied,
        Harm::LostReply,
        Harm::SelfConflict,
        Harm::Busy { times: 5 },
        Harm::Busy { times: 7 },
        Harm::Late { us: 1 },
        Harm::Late { us: 1_000_000 },
        Harm::Late { us: 20_000_000 },
    ];
    for bytes in [0, 20] {
        harms.extend([true, false].map(|quietly| Harm::Cut { bytes, quietly }));
    }
    harms
}

#[test]
fn every_fault_of_every_request_is_survived() {
    let calm = scenario("json");
    let names = requests(&run(&calm, &Pipeline));
    assert!(names.len() > 60, "{names:?}");
    let mut cases = 0;
    for (at, name) in names.iter().enumerate() {
        for (kind, harm) in harms().into_iter().enumerate() {
            // A third of the pairs; the campaign draws the others.
            if (at + kind) % 3 == 0 {
                let faulty = calm.with_faults([Fault { life: 0, at: name.clone(), harm }]);
                if let Some(page) = complaints(&faulty) {
                    panic!("{page}");
                }
                cases += 1;
            }
        }
    }
    assert!(cases > 250, "{cases}");
}

#[test]
fn what_can_be_waited_out_ends_no_query() {
    let calm = scenario("json");
    let names = requests(&run(&calm, &Pipeline));
    for (at, harm) in
        harms().into_iter().filter(|harm| !matches!(harm, Harm::Denied | Harm::Busy { times: 7 })).enumerate()
    {
        for name in names.iter().skip(at).step_by(5) {
            let found = run(&calm.with_faults([Fault { life: 0, at: name.clone(), harm: harm.clone() }]), &Pipeline);
            assert_eq!(found.lives.len(), 1, "{harm} at {name}: {:?}", found.lives);
        }
    }
}

#[test]
fn a_promise_that_comes_late_after_its_promiser_died_meets_the_next_life() {
    // The promise of batch 1 is under way when the process dies, and arrives somewhere in the next life.
    let calm = scenario("json");
    let promise = format!("{}/checkpoint/offsets/1 put", blob::ROOT);
    let image = wavetank_sim::CrashImage::Strict;
    let mut ends = std::collections::BTreeSet::new();
    for us in (1_000_000..1_500_000).step_by(50_000).chain([10_000_000]) {
        let faults = [
            Fault { life: 0, at: promise.clone(), harm: Harm::Late { us } },
            Fault { life: 0, at: format!("{promise}#2"), harm: Harm::CrashBefore { image } },
        ];
        let late = calm.with_faults(faults);
        assert_eq!(complaints(&late), None);
        ends.insert(run(&late, &Pipeline).lives.len());
    }
    assert!(ends.contains(&2), "{ends:?}");
}

#[test]
fn a_promise_that_appears_while_a_query_starts_is_another_run_and_nothing_to_delete() {
    let root = blob::ROOT;
    let promise = format!("{root}/checkpoint/offsets/0 put");
    let image = wavetank_sim::CrashImage::Kill;
    let late = scenario("json").with_faults([
        Fault { life: 0, at: promise.clone(), harm: Harm::Late { us: 2_000_000 } },
        Fault { life: 0, at: format!("{promise}#2"), harm: Harm::CrashBefore { image } },
        Fault { life: 1, at: format!("{root}/checkpoint/commits list"), harm: Harm::Slow { us: 3_000_000 } },
    ]);
    assert_eq!(complaints(&late), None);
    let ends: Vec<String> = run(&late, &Pipeline).lives.iter().map(|end| format!("{end:?}")).collect();
    assert!(ends.len() == 3 && ends[1].contains("CONCURRENT_STREAM_LOG_UPDATE"), "{ends:?}");
}

/// A run of its own on the scenario's checkpoint, which ends with how its query ended.
async fn engine(environment: Environment, script: &str) -> Result<u64, String> {
    let nowhere = std::sync::Arc::new(std::sync::Mutex::new(std::io::sink()));
    let session = SessionBuilder::new(environment)
        .sources(wavetank_sources::providers())
        .sinks(wavetank_sinks::providers(MemoryTables::new(), nowhere))
        .build()
        .map_err(|error| error.to_string())?;
    let run = session.run_script(script).await.map_err(|error| error.to_string())?;
    for query in &run.queries {
        query.process_all_available().await.map_err(|error| error.to_string())?;
        query.stop_after_batch();
        query.await_termination().await.map_err(|error| error.to_string())?;
    }
    Ok(0)
}

#[test]
fn two_engines_on_one_checkpoint_without_locks_find_each_other_out() {
    let calm = scenario("json");
    let world = World::new(3);
    for step in &calm.steps {
        if let Step::Drop { file, rows, .. } = step {
            world.drop_file(file, format!("{}\n", rows.join("\n")).into());
        }
    }
    let script = calm.script.clone();
    let ended = world.run(|environment| async move {
        let second = Environment { entropy: environment.entropy.fork("second"), ..environment.clone() };
        join_all([engine(environment, &script), engine(second, &script)]).await
    });
    let answers = ended.finished().expect("both end");
    let told: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!told.is_empty(), "nobody noticed: {answers:?}");
    for error in told {
        assert!(error.contains("CONCURRENT_STREAM_LOG_UPDATE"), "{error}");
    }
    // Whoever went on: readers see every row once.
    let seen = wavetank_sim::observe::observe(&world, &wavetank_sim::witness::Witnesses::default());
    let out = &seen.sinks[&format!("{}/out", blob::ROOT)];
    assert_eq!(out.complaints, Vec::<String>::new());
    let alone = run(&calm, &Pipeline);
    let alone = &alone.observed.sinks[&format!("{}/out", blob::ROOT)];
    let (rows, expected) = (out.all_rows(), alone.all_rows());
    assert!(rows.iter().all(|row| expected.contains(row)) && rows.len() <= expected.len(), "{rows:?}");
}

/// Three batches of counts with everything in the object store, whose logs and states are purged as soon as they may be.
fn purging() -> Scenario {
    let mut calm = scenario("json");
    for at in 2..6 {
        let row = format!(r#"{{"ts":"2024-01-01T00:0{at}:00Z","k":"a","v":{at}}}"#);
        calm.steps.push(Step::Drop { file: format!("{}/in/{at}.json", blob::ROOT), rows: vec![row], torn: false });
        calm.steps.push(Step::Settle);
    }
    let set =
        [("minBatchesToRetain", "1"), ("stateStore.minDeltasForSnapshot", "1"), ("fileSink.log.compactInterval", "2")];
    let set = set.map(|(key, value)| (format!("spark.sql.streaming.{key}"), value.to_owned()));
    Scenario { settings: [(0, set.into())].into(), ..calm }
}

#[test]
fn a_delete_that_comes_late_takes_nothing_that_is_needed() {
    let calm = purging();
    let deletes: Vec<String> =
        requests(&run(&calm, &Pipeline)).into_iter().filter(|name| name.ends_with(" delete")).collect();
    for kind in ["/offsets/", "/commits/", ".delta", ".snapshot"] {
        assert!(deletes.iter().any(|name| name.contains(kind)), "{kind}: {deletes:?}");
    }
    let image = wavetank_sim::CrashImage::Kill;
    for (at, name) in deletes.iter().enumerate() {
        // After its second try; while the next batches run; in the next life; when all is over.
        for us in [150_000, 2_000_000, 60_000_000].into_iter().skip(at % 3).take(1).chain([1_300_000]) {
            let late = Fault { life: 0, at: name.clone(), harm: Harm::Late { us } };
            let again = Fault { life: 0, at: format!("{name}#2"), harm: Harm::CrashBefore { image } };
            for faults in [vec![late.clone()], vec![late, again]] {
                assert_eq!(complaints(&calm.with_faults(faults)), None);
            }
        }
    }
}

/// A query whose batch fails deletes the files of the batch. Where that request comes late, the query runs again, in the same
/// session, and has committed files of its own: they must have other names.
#[test]
fn a_late_delete_of_a_failed_batch_misses_the_files_of_the_next_run_in_the_session() {
    let calm = scenario("json");
    let world = World::new(5);
    let Some(Step::Drop { file, rows, .. }) = calm.steps.first() else { panic!("the first step drops a file") };
    world.drop_file(file, format!("{}\n", rows.join("\n")).into());
    let part = format!("{}/out/part-00000-*-c000.json", blob::ROOT);
    world.effects().arm([
        Fault { life: 0, at: format!("{part} head"), harm: Harm::Denied },
        Fault { life: 0, at: format!("{part} delete"), harm: Harm::Late { us: 3_600_000_000 } },
    ]);
    let (tables, query) = calm.script.split_at(calm.script.find("CREATE STREAMING").expect("a streaming table"));
    let (tables, query) = (tables.to_owned(), query.to_owned());
    let ended = world.run(|environment| async move {
        let nowhere = std::sync::Arc::new(std::sync::Mutex::new(std::io::sink()));
        let session = SessionBuilder::new(environment.clone())
            .sources(wavetank_sources::providers())
            .sinks(wavetank_sinks::providers(MemoryTables::new(), nowhere))
            .build()
            .map_err(|error| error.to_string())?;
        session.run_script(&tables).await.map_err(|error| error.to_string())?;
        let mut answers = Vec::new();
        for _ in 0..2 {
            let run = session.run_script(&query).await.map_err(|error| error.to_string())?;
            let query = &run.queries[0];
            answers.push(query.process_all_available().await.map_err(|error| error.to_string()));
            query.stop_after_batch();
            let _ = query.await_termination().await; // the error is known
        }
        // The request arrives.
        environment.clock.sleep_until_us(environment.clock.now_us() + 7_200_000_000).await;
        Ok::<_, String>(answers)
    });
    let answers = ended.finished().expect("it ends").expect("a session and two queries");
    assert!(answers[0].as_ref().is_err_and(|error| error.contains("denied")), "{answers:?}");
    assert_eq!(answers[1], Ok(()));
    let seen = wavetank_sim::observe::observe(&world, &wavetank_sim::witness::Witnesses::default());
    let out = &seen.sinks[&format!("{}/out", blob::ROOT)];
    assert_eq!(out.complaints, Vec::<String>::new());
    assert_eq!(out.unlisted, Vec::<String>::new(), "the late request has taken what the failed batch left");
    assert_eq!(world.blob().take_replaced(), Vec::<String>::new());
}
