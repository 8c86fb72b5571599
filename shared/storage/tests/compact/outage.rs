//! A store that is not available for a minute: nothing is acknowledged that is not stored, nothing acknowledged is lost, and
//! afterwards all settles.

use storage::Error;
use storage::faults::{Call, Fault, Faults};
use storage::write::Writer;

use super::interleaved::{Model, Request, ask, request};
use super::{NOW_S, Random, assert_sound, everything, faulty, memory, mended, run, settings, wait};

const OBJECTS: [Call; 6] = [
    Call::ObjectPut,
    Call::ObjectGet,
    Call::ObjectGetRange,
    Call::ObjectHead,
    Call::ObjectDelete,
    Call::ObjectList,
];
const TABLE: [Call; 6] = [
    Call::TableGet,
    Call::TableBatchGet,
    Call::TableRange,
    Call::TablePut,
    Call::TableTransact,
    Call::TableDelete,
];
const OUTAGE_S: u64 = 60;

async fn send(request: &Request, writer: &Writer, now_s: u64, model: &mut Model) -> storage::Result<()> {
    let sent = request.send(writer, now_s).await;
    request.note(model, sent.is_ok());
    sent
}

/// Requests, some merged, an outage in which `calls` fail as `fault` says, the same requests again, and passes.
async fn outage(seed: u64, calls: &[Call], fault: Fault) {
    let what = format!("seed {seed}, {fault:?} of {calls:?}");
    let mut random = Random(seed);
    let store = memory();
    let faults = Faults::new();
    let unreliable = faulty(&store, &faults);
    let mut writer = Writer::new(unreliable.clone());
    let mut model = Model::default();
    for number in 0..20 {
        send(&request(&mut random, number), &writer, NOW_S, &mut model).await.expect("memory");
    }
    run(&unreliable, &settings(), NOW_S).await.expect("memory");
    ask(&store, &model, &what).await;

    for &call in calls {
        faults.on_every(call, fault);
    }
    let mut refused = Vec::new();
    for later_s in (0..OUTAGE_S).step_by(10) {
        let now_s = NOW_S + later_s;
        let request = request(&mut random, 100 + later_s);
        let error = send(&request, &writer, now_s, &mut model).await.expect_err("nothing is stored");
        assert!(matches!(error, Error::Unavailable { .. }), "{what}: {error}");
        refused.push(request);
        match run(&unreliable, &everything(), now_s).await {
            Ok(report) => assert_eq!((report.merges, report.deleted), (0, 0), "{what}: {report:?}"),
            Err(error) => assert!(matches!(error, Error::Unavailable { .. }), "{what}: {error}"),
        }
        ask(&store, &model, &what).await;
        // Also a process that began in the middle of it.
        writer = Writer::new(unreliable.clone());
    }

    faults.heal();
    let now_s = NOW_S + OUTAGE_S;
    for request in &refused {
        send(request, &writer, now_s, &mut model).await.expect("it is well again");
    }
    ask(&store, &model, &what).await;
    // What a pass held when it failed is free when its lease has run out.
    for pass in 1..4 {
        let report = run(&unreliable, &everything(), now_s + pass * 2000).await.expect("it is well again");
        assert_eq!((report.failed, report.held), (0, 0), "{what}: {report:?}");
    }
    ask(&store, &model, &what).await;
    mended(&store).await;
    ask(&store, &model, &what).await;
    assert_sound(&store).await;
}

#[test]
fn a_store_that_is_not_available_for_a_minute_costs_no_data() {
    wait(async {
        for seed in 0..10 {
            for fault in [Fault::FailBefore, Fault::FailAfter] {
                outage(seed, &OBJECTS, fault).await;
                outage(seed, &TABLE, fault).await;
                outage(seed, &[OBJECTS, TABLE].concat(), fault).await;
            }
        }
    });
}
