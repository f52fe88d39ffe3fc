/// What somebody who misspelt a name may have meant.
enum NearestName {
    /// The nearest name of which at most a third of the letters differ.
    static func of(_ name: String, among names: [String]) -> String? {
        guard name.utf8.count <= 64 else { return nil }
        let limit = max(2, name.utf8.count / 3)
        // What differs more in length differs more.
        let scored = names.filter { abs($0.utf8.count - name.utf8.count) <= limit }.map { (name: $0, distance: distance(name, $0)) }
        guard let best = scored.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        return best.distance <= limit ? best.name : nil
    }

    /// Levenshtein's edit distance.
    static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let previous = row[j + 1]
                row[j + 1] = min(previous + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
                diagonal = previous
            }
        }
        return row[b.count]
    }
}
