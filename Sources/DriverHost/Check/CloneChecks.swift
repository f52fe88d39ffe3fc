import CDriver

/// Copies of volumes, by the driver or by the host.
enum CloneChecks {
    static let cases: [ConformanceCase] = [
        ConformanceCase("clone: holds its source's bytes", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            try bench.write("far", to: source, at: 700 << 20)
            let end = try bench.lastBlock(source, gibibytes: 1)
            try bench.write("end", to: source, at: end)
            let clone = try bench.clone(of: source)
            try bench.expect("end", in: clone, at: end, "the clone")
            try bench.expect("source", in: clone, "the clone")
            try bench.expect("far", in: clone, at: 700 << 20, "the clone")
        },
        ConformanceCase("clone: of an empty volume reads as zeroes", needs: [.cloneVolume], handles: true) { bench in
            try bench.expect("", in: try bench.clone(of: try bench.volume()), "the clone")
        },
        ConformanceCase("clone: larger, with zeroes behind", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("end", to: source, at: (1 << 30) - 65_536)
            let clone = try bench.clone(of: source, size: 2)
            let bytes = try bench.handle(clone) { try $0.size }
            try bench.require(bytes == 2 << 30, "\(bytes) bytes for 2 GiB")
            try bench.expect("end", in: clone, at: (1 << 30) - 65_536, "the old end")
            try bench.expectZeroes(in: clone, from: 1 << 30, to: 2 << 30, "behind")
        },
        ConformanceCase("clone: made again is the same", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            let clone = try bench.clone(of: source)
            for _ in 0..<2 { try bench.call(.cloneVolume, clone, [("source", bench.describe(source))]) }
            try bench.expect("source", in: clone, "after the second call")
        },
        ConformanceCase("clone: neither changes the other", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            let clone = try bench.clone(of: source)
            try bench.write("clone", to: clone)
            try bench.expect("source", in: source, "the source")
            try bench.write("changed", to: source)
            try bench.expect("clone", in: clone, "the clone")
        },
        ConformanceCase("clone: its source can go, or says that it is busy", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            let clone = try bench.clone(of: source)
            do { try bench.call(.deleteVolume, source) } catch let failure as DriverFailure where failure.code == .busy {}
            try bench.expect("source", in: clone, "the clone")
        },
        ConformanceCase("clone: it can go before its source", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            let clone = try bench.clone(of: source)
            try bench.call(.deleteVolume, clone)
            try bench.expect("source", in: source, "the source")
        },
        ConformanceCase("clone: of a clone of a clone, eight deep", needs: [.cloneVolume], handles: true) { bench in
            var last = try bench.volume()
            try bench.write("depth 0", to: last)
            for depth in 1...8 {
                last = try bench.clone(of: last)
                try bench.expect("depth \(depth - 1)", in: last, "at depth \(depth)")
                try bench.write("depth \(depth)", to: last)
            }
        },
        ConformanceCase("clone: a chain goes from its beginning", needs: [.cloneVolume], handles: true) { bench in
            var chain = [try bench.volume()]
            try bench.write("chain", to: chain[0])
            for _ in 0..<4 { chain.append(try bench.clone(of: chain[chain.count - 1])) }
            for volume in chain.dropLast() {
                do { try bench.call(.deleteVolume, volume) } catch let failure as DriverFailure where failure.code == .busy {}
            }
            try bench.expect("chain", in: chain[chain.count - 1], "the last")
        },
        ConformanceCase("clone: of a clone can be extended", needs: [.cloneVolume, .extendVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            var clone = try bench.clone(of: source)
            try VolumeChecks.extend(bench, &clone, to: 2)
            try bench.expect("source", in: clone, "the clone")
            try bench.expect("", in: clone, at: 1 << 30, "behind")
        },
        ConformanceCase("clone: four of one source at the same time", needs: [.cloneVolume], handles: true) { bench in
            let source = try bench.volume()
            try bench.write("source", to: source)
            let clones = (0..<4).map { _ in CheckBench.Object() }
            for clone in clones { bench.remember(clone) }
            let described = bench.describe(source)
            let failures = try VolumeChecks.parallel(clones, bench) { bench, clone in
                try bench.call(.cloneVolume, clone, [("source", described)])
            }
            try bench.require(failures.isEmpty, failures.joined(separator: "; "))
            for clone in clones { try bench.expect("source", in: clone, clone.name) }
        },
        ConformanceCase("clone: of what is not there is refused", needs: [.cloneVolume]) { bench in
            try bench.refused([.notFound], "a clone") { _ = try bench.clone(of: CheckBench.Object()) }
        },
    ]
}
