import Settings
import Testing

@testable import OpenStack

@Suite("Users of a file")
struct BasicUsersTests {
    private static let cheap = "$2y$05$" + String(repeating: "a", count: 53)
    private static let other = "$2b$06$" + String(repeating: "b", count: 53)

    @Test("lines end in a line feed or in carriage return and line feed; a byte order mark and blanks between roles are no part of them")
    func lines() throws {
        let text = "alice:\(Self.cheap):p1:member, reader\nbob:\(Self.other):p2:admin\n"
        for variant in [text, text.replacing("\n", with: "\r\n"), "\u{FEFF}# users\r\n\r\n" + text.replacing("\n", with: "\r\n")] {
            let users = try BasicUsers.parse(variant, name: "users")
            #expect(users.byName.keys.sorted() == ["alice", "bob"])
            #expect(users.byName["alice"]?.roles == ["member", "reader"])
            #expect(users.byName["bob"]?.roles == ["admin", "member", "reader"])
            #expect(users.byName["alice"]?.projectID == "p1")
        }
    }

    @Test("each malformed line is told with its number, whatever ends the lines")
    func malformed() {
        let text = "alice:\(Self.cheap):p1:member\r\nnonsense\r\nbob:secret:p1:member\r\n\r\nalice:\(Self.other):p1:admin\r\n"
        #expect {
            try BasicUsers.parse(text, name: "users")
        } throws: { error in
            let problems = (error as? SettingsError)?.problems ?? []
            return problems.count == 3 && problems[0].hasPrefix("users:2:") && problems[1].hasPrefix("users:3:")
                && problems[2].hasPrefix("users:5:") && !problems.joined().contains("secret")
        }
    }

    @Test("an unknown name is tried against one of the file's own hashes, always the same, and all of them stand in for somebody")
    func standIns() throws {
        let users = try BasicUsers.parse("alice:\(Self.cheap):p1:member\nbob:\(Self.other):p2:admin\n", name: "users")
        #expect(users.hash(for: "alice") == Self.cheap && users.hash(for: "bob") == Self.other)
        let names = (0..<200).map { "nobody-\($0)" }
        #expect(Set(names.map(users.hash)) == [Self.cheap, Self.other])
        #expect(names.allSatisfy { users.hash(for: $0) == users.hash(for: $0) })
    }
}
