//! What a file costs from compressed segments to its finished body, next to what it could cost at the least.

use std::hint::black_box;
use std::time::Duration;

use bench::corpus::Corpus;
use crc_fast::{CrcAlgorithm, checksum};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use domain::exporting::Assembler;
use domain::filter::Filter;
use domain::log::repeats::Repeats;
use domain::log::segment::{MAX_ENVELOPES_BYTES, Unpacker};
use domain::time::Millis;

/// A file of 16 MiB: more than most processors' caches hold.
const BYTES: usize = 16 * 1024 * 1024;

/// Makes the body of a file, in the buffer of the one before.
fn body(corpus: &Corpus, filter: Option<&Filter>, mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    let mut assembler =
        Assembler::new(filter.cloned(), usize::MAX, Repeats::default(), buffer).expect("there is memory");
    for segment in &corpus.segments {
        assembler.add(segment).expect("the segment is whole");
    }
    assembler.into_parts().0
}

fn file(criterion: &mut Criterion) {
    let (from, until) = (Millis(1_750_000_000_000), Millis(1_750_000_300_000));
    for events_per_segment in [200, 10] {
        let corpus = Corpus::new(BYTES, events_per_segment, from, until);
        let lines = body(&corpus, None, Vec::new());
        let mut group = criterion.benchmark_group(format!(
            "file, {events_per_segment} events a segment, zstd ratio {:.1}",
            corpus.ratio()
        ));
        group
            .throughput(Throughput::Bytes(corpus.bytes as u64))
            .sample_size(20)
            .measurement_time(Duration::from_secs(5));
        // Whatever is measured writes into memory that it has touched before, as a run does from its second file on.
        let mut buffer = Vec::with_capacity(2 * BYTES);
        group.bench_function("memory copied line by line", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    buffer.extend_from_slice(black_box(line));
                }
            });
        });
        group.bench_function("zstd alone, one segment over another", |bencher| {
            let mut decompressor = zstd::bulk::Decompressor::new().expect("there is memory");
            let mut segment_buffer = Vec::with_capacity(MAX_ENVELOPES_BYTES);
            bencher.iter(|| {
                for segment in &corpus.segments {
                    let envelopes = &segment.envelopes;
                    let size = decompressor.decompress_to_buffer(envelopes, &mut segment_buffer);
                    black_box(size.expect("the segment is whole"));
                }
            });
        });
        group.bench_function("zstd alone, into one body", |bencher| {
            let mut unpacker = Unpacker::new().expect("there is memory");
            bencher.iter(|| {
                buffer.clear();
                for segment in &corpus.segments {
                    let unpacked = unpacker.append(segment, &mut buffer);
                    unpacked.expect("the segment is whole");
                }
            });
        });
        group.bench_function("file body: zstd, repeats, all names", |bencher| {
            bencher.iter(|| buffer = body(&corpus, None, std::mem::take(&mut buffer)));
        });
        group.bench_function("file body: zstd, repeats, half of the names", |bencher| {
            let filter = Filter {
                event_filter: Some(vec!["return.processed".to_owned()]),
                entity_filter: Some(vec!["order".to_owned()]),
            };
            bencher.iter(|| buffer = body(&corpus, Some(&filter), std::mem::take(&mut buffer)));
        });
        group.bench_function("CRC-64 of the body", |bencher| {
            bencher.iter(|| checksum(CrcAlgorithm::Crc64Nvme, black_box(&lines)));
        });
        group.finish();
    }
}

criterion_group!(benches, file);
criterion_main!(benches);
