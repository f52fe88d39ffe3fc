/// What somebody who misspelt a name may have meant.
enum NearestName {
    /// The nearest name of which at most a third of the letters differ; of several the first by the alphabet.
    static func of(_ name: String, among names: [String]) -> String? {
        let wanted = Array(name.utf8)
        guard wanted.count <= 64 else { return nil }
        var least = max(2, wanted.count / 3)
        var nearest: String?
        // What differs more in length differs more.
        for candidate in names where abs(candidate.utf8.count - wanted.count) <= least {
            guard let found = distance(wanted, Array(candidate.utf8), atMost: least) else { continue }
            if let best = nearest, found == least, best <= candidate { continue }
            (nearest, least) = (candidate, found)
        }
        return nearest
    }

    /// Levenshtein's edit distance; nil, and not computed to its end, where it is larger than the limit.
    private static func distance(_ a: [UInt8], _ b: [UInt8], atMost limit: Int) -> Int? {
        var row = Array(0...b.count)
        var i = 0
        while i < a.count {
            var diagonal = row[0]
            row[0] = i + 1
            var least = row[0]
            var j = 0
            while j < b.count {
                let previous = row[j + 1]
                let cost = min(previous + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
                row[j + 1] = cost
                least = min(least, cost)
                diagonal = previous
                j += 1
            }
            // No later row has less than this one's least.
            if least > limit { return nil }
            i += 1
        }
        return row[b.count] <= limit ? row[b.count] : nil
    }
}
