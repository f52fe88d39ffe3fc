import DriverHost
import Primitives
import TestSupport
import Testing

@testable import Transfers

@Suite("Images over TLS", .serialized)
struct CertificateTests {
    private static let authority = TestCertificate("authority", use: .authority)

    @Test("A certificate of somebody else, of another host, or too old: no byte comes or goes, and no token is told")
    func bad() throws {
        let test = try ImageUnderTest()
        try test.shrink(toMebibytes: 4)
        let authorities = Self.authority.file()
        let data = ImageUnderTest.data(300_000)
        let server = try ImageServer { _, request in request.method == "PUT" ? .init(status: 204) : ImageServer.data(data, request) }
        func order(_ certificate: TestCertificate) throws -> (ImageOrder, HTTPFaultProxy) {
            let proxy = try HTTPFaultProxy(to: server.port, certificate: certificate)
            var order = test.order([], size: data.count)
            order.servers = ["https://localhost:\(proxy.port)"]
            order.certificateAuthorities = authorities
            order.retries = 0
            order.timeout = 30
            return (order, proxy)
        }
        for certificate in [
            TestCertificate("glance"), TestCertificate("glance", hosts: ["elsewhere.example"], issuer: Self.authority),
            TestCertificate("glance", days: -1, issuer: Self.authority),
        ] {
            let (order, proxy) = try order(certificate)
            for failure in [test.failure(order), #expect(throws: DriverFailure.self) { try test.store(order) }] {
                #expect(
                    failure?.code == .retry && failure?.message.contains("cannot be reached") == true, "\(failure.map { "\($0)" } ?? "")")
            }
            #expect(proxy.connections > 0 && proxy.heads.isEmpty)
        }
        #expect(server.requests.isEmpty && test.allocated <= 0)
        let (order, proxy) = try order(TestCertificate("glance", issuer: Self.authority))
        try test.fetch(order)
        try test.store(order)
        #expect(proxy.heads.count == 2)
        #expect(try test.read(299_520) == Array(data[..<299_520]))
    }
}
