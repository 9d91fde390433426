import KubernetesObjects
import Testing

@testable import KubernetesClient

@Suite struct ScheduleTests {
    @Test(arguments: 0..<300 as Range<UInt64>)
    func `whatever fails, once it is quiet the objects are the server's`(seed: UInt64) throws {
        var simulation = Simulation(seed: seed, usesStreams: seed % 3 != 0)
        simulation.server.hasStreams = seed % 2 == 0
        for _ in 0..<400 {
            switch Int.random(in: 0..<10, using: &simulation.random) {
            case 0..<4: simulation.change()
            case 4..<6: try simulation.fail()
            default: try simulation.step()
            }
        }
        var steps = 0
        while !simulation.isAtRest || simulation.mirror != simulation.truth, steps < 100 {
            try simulation.step()
            steps += 1
        }
        #expect(simulation.mirror == simulation.truth)
        #expect(simulation.complaints == [])
        #expect(simulation.reflector.isListed)
        #expect(
            Set(simulation.mirror.keys) == Set(simulation.reflector.known.keys.map { ObjectReference(.service, $0) }))
    }

    @Test func `a server that keeps expiring what it gave is asked less and less often`() throws {
        var simulation = Simulation(seed: 1, usesStreams: false)
        simulation.server.set(Simulation.path, service("web"))
        while simulation.now < .seconds(3600) {
            if case .unanswered(let request) = simulation.exchange, request.verb == .watch {
                simulation.tell(.refused(ServerStatus(code: 410, reason: "Expired"), retryAfter: nil))
            } else {
                try simulation.step()
            }
        }
        // Without pauses it would be hundreds of thousands.
        #expect((60...1200).contains(simulation.lists), "\(simulation.lists) lists in an hour")
    }

    @Test func `a thousand agents that lose one server do not come back in one moment`() throws {
        var firstSecond = 0
        var delays: Set<Duration> = []
        for seed in 0..<1000 as Range<UInt64> {
            var simulation = Simulation(seed: seed)
            while !simulation.isAtRest { try simulation.step() }
            simulation.tell(.failed("connection reset"))
            // While it starts, nothing answers.
            var waited = Duration.zero
            for _ in 0..<6 {
                guard case .waiting(let delay) = simulation.exchange else { break }
                waited += delay
                simulation.tell(.ready)
                simulation.tell(.failed("connection refused"))
            }
            delays.insert(waited)
            if waited < .seconds(1) { firstSecond += 1 }
            #expect(simulation.lists == 0)
        }
        #expect(delays.count > 500)
        #expect(firstSecond < 500)
    }

    @Test func `after a restart of the server the watch goes on without a list`() throws {
        var simulation = Simulation(seed: 7, usesStreams: false)
        simulation.server.set(Simulation.path, service("web"))
        while !simulation.isAtRest { try simulation.step() }
        #expect(simulation.lists == 1)
        for _ in 0..<10 {
            simulation.tell(.failed("connection refused"))
            try simulation.step()
        }
        simulation.server.remove(Simulation.path, "shop/web")
        while !simulation.isAtRest { try simulation.step() }
        #expect(simulation.mirror == [:])
        #expect(simulation.lists == 1)
    }
}
